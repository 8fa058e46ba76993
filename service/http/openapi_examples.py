"""Examples in the OpenAPI document, in the schemas that are really sent."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError

from service.contract.schemas import (
    Alive,
    Answer,
    Credit,
    Embedding,
    Landmark,
    Landmarks,
    Neighbor,
    Outcome,
    Outcomes,
    ParameterFault,
    Problem,
    Ready,
    Verification,
)
from service.http.problems import DESCRIBED, RULES, Rule

_REQUEST_ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
GALLERY = "2026-11-21T05-12-00Z-3f9c"
PICTURE = "17660ef415d37059"
ETAG = f'"{"9c" * 16}"'
FILE = "(the bytes of a JPEG, PNG, WebP, GIF, AVIF or HEIC)"
BASE64 = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="
"""A real picture, of one pixel."""
_EMBEDDER = f"sha256:{'5f' * 32}"


_FAULT = ParameterFault(where="query.k", message="Input should be less than or equal to 100")


def _problem(rule: Rule) -> Problem:
    is_parameter = rule is RULES[RequestValidationError]
    return Problem(
        title=HTTPStatus(rule.status).phrase,
        status=rule.status,
        code=rule.code,
        detail=f"{_FAULT.where}: {_FAULT.message}" if is_parameter else rule.meaning,
        request_id=_REQUEST_ID,
        faults=(_FAULT,) if is_parameter else None,
    )


PROBLEMS: Mapping[int, Problem] = {rule.status: _problem(rule) for rule in reversed(DESCRIBED)}
"""One problem of each status: the first of the table."""

_URL = "https://commons.wikimedia.org/wiki/Category:Hawa_Mahal"
_NEIGHBOR = Neighbor(
    landmark_id="138982",
    name="Hawa Mahal",
    url=_URL,
    picture=PICTURE,
    similarity=0.8731,
    credit=Credit(
        author="A. Photographer",
        license="CC BY-SA 4.0",
        title="Hawa Mahal in the morning",
        url="https://photographs.example/hawa-mahal",
    ),
)
ANSWER = Answer(
    landmark_id="138982",
    name="Hawa Mahal",
    url=_URL,
    confidence=0.8731,
    probability=0.97,
    known=True,
    neighbors=(_NEIGHBOR,),
    landmarks=(_NEIGHBOR,),
    gallery=GALLERY,
    embedder=_EMBEDDER,
)
VERIFICATION = Verification(
    landmark_id="138982",
    name="Hawa Mahal",
    url=_URL,
    similarity=0.8731,
    probability=0.97,
    same=True,
    threshold=0.62,
    gallery=GALLERY,
    embedder=_EMBEDDER,
)
EMBEDDING = Embedding(vector=(0.6, -0.8), dimension=2, embedder=_EMBEDDER)
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
    landmarks=(Landmark(landmark_id="138982", name="Hawa Mahal", url=_URL),),
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
