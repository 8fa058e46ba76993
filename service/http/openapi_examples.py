"""What the OpenAPI document shows as examples, in the shapes that are really answered."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from service.contract.schemas import (
    Alive,
    Answer,
    Credit,
    Landmark,
    Landmarks,
    Neighbor,
    Outcome,
    Outcomes,
    ParameterFault,
    Problem,
    Ready,
)

_REQUEST_ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
GALLERY = "2026-11-21T05-12-00Z-3f9c"
PICTURE = "17660ef415d37059"
ETAG = f'"{"9c" * 16}"'
FILE = "(the bytes of a JPEG, PNG, WebP or GIF)"
_EMBEDDER = f"sha256:{'5f' * 32}"


def _problem(
    status: int, code: str, detail: str, faults: tuple[ParameterFault, ...] | None = None
) -> Problem:
    return Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        request_id=_REQUEST_ID,
        faults=faults,
    )


_FAULT = ParameterFault(where="query.k", message="Input should be less than or equal to 100")

PROBLEMS: Mapping[int, Problem] = {
    problem.status: problem
    for problem in (
        _problem(400, "multipart-malformed", "the multipart form cannot be read"),
        _problem(401, "key-refused", "send a key that is known here, in the header X-API-Key"),
        _problem(403, "admin-off", "this service takes no orders: no admin key is configured"),
        _problem(404, "picture-unknown", "the gallery has no picture of this id to show"),
        _problem(408, "request-timeout", "the body did not arrive within 60 seconds"),
        _problem(
            409,
            "reload-refused",
            "what is published is refused (artifact-damaged), and what was served before still "
            "is; the service's log tells more",
        ),
        _problem(
            413, "body-too-large", "the picture is too large: at most 20971520 bytes are taken"
        ),
        _problem(
            415,
            "not-a-picture",
            "this is not a picture that can be read; send a JPEG, PNG, WebP or GIF",
        ),
        _problem(422, "bad-parameters", f"{_FAULT.where}: {_FAULT.message}", (_FAULT,)),
        _problem(429, "too-many-pictures", "too many of your pictures wait"),
        _problem(
            500,
            "internal",
            "the service failed to answer; its log tells more under this request id",
        ),
        _problem(503, "not-ready", "no gallery is open"),
        _problem(504, "deadline", "the picture could not be answered in time"),
    )
}
"""One failure of each status, which every address that can fail so can give."""

ANSWER = Answer(
    landmark_id="138982",
    name="Hawa Mahal",
    confidence=0.8731,
    probability=0.97,
    known=True,
    neighbors=(
        Neighbor(
            landmark_id="138982",
            name="Hawa Mahal",
            picture=PICTURE,
            similarity=0.8731,
            credit=Credit(
                author="A. Photographer",
                license="CC BY-SA 4.0",
                title="Hawa Mahal in the morning",
                url="https://photographs.example/hawa-mahal",
            ),
        ),
    ),
    gallery=GALLERY,
    embedder=_EMBEDDER,
)
OUTCOMES = Outcomes(
    outcomes=(
        Outcome(name="hawa-mahal.jpg", answer=ANSWER),
        Outcome(name="notes.txt", problem=PROBLEMS[415]),
    )
)
LANDMARKS = Landmarks(
    gallery=GALLERY,
    total=81_313,
    offset=0,
    landmarks=(Landmark(landmark_id="138982", name="Hawa Mahal"),),
)
ALIVE = Alive()
READY = Ready(
    gallery=GALLERY,
    rows=1_580_470,
    embedder=_EMBEDDER,
    device="cpu",
    runtime="openvino",
    precision="bf16",
    gallery_precision="bf16",
)
METRICS = """\
# HELP cairn_requests_total Requests
# TYPE cairn_requests_total counter
cairn_requests_total{address="/predict",method="POST",status="200"} 1024.0
"""
