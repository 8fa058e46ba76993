"""The addresses of the service. No logic: read, ask, answer."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.security import APIKeyHeader
from pydantic import BaseModel

from embedder.errors import CairnError
from service.contract.api_keys import name_of
from service.contract.schemas import Alive, Answer, Landmarks, Outcome, Outcomes, Problem, Ready
from service.http import openapi_examples as examples
from service.http.cancellation import unless_left
from service.http.problems import (
    AdminOffError,
    KeyRefusedError,
    NotReadyError,
    RequestError,
    problem_of,
)
from service.http.security_headers import is_held
from service.http.uploads import FIELD, Intake, Upload
from service.inference.batcher import Batcher
from service.lifecycle.reload import Reloader
from service.telemetry.metrics import CONTENT_TYPE
from service.telemetry.request_id import request_id

api = APIRouter()
"""What clients ask for; needs a key where keys are configured."""

operation = APIRouter()
"""What those ask for who run the service."""

Key = Annotated[
    str | None, Depends(APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="key"))
]


# What is injected is found by coroutines: FastAPI would send a plain function to a thread.


async def _batcher(request: Request) -> Batcher:
    batcher: Batcher | None = request.app.state.batcher
    if batcher is None:
        raise NotReadyError("no gallery is open")
    return batcher


async def _reloader(request: Request) -> Reloader:
    reloader: Reloader | None = request.app.state.reloader
    if reloader is None:
        raise NotReadyError("no gallery is open")
    return reloader


async def _intake(request: Request) -> Intake:
    intake: Intake = request.app.state.intake
    return intake


async def _client(request: Request, key: Key) -> str:
    """Say who asks: the name of the key where keys are needed, else the address."""
    keys = request.app.state.keys
    if not keys:
        return request.client.host if request.client else ""
    name = name_of(key or "", keys)
    if name is None:
        raise KeyRefusedError("send a key that is known here, in the header X-API-Key")
    request.scope["cairn.client"] = name
    return name


async def _admin(request: Request, key: Key) -> None:
    """Let only those give orders who have a key for it."""
    keys = request.app.state.admin_keys
    if not keys:
        raise AdminOffError("this service takes no orders: no admin key is configured")
    name = name_of(key or "", keys)
    if name is None:
        raise KeyRefusedError("send an admin key that is known here, in the header X-API-Key")
    request.scope["cairn.client"] = name


Asking = Annotated[str, Depends(_client)]
OpenBatcher = Annotated[Batcher, Depends(_batcher)]
OpenReloader = Annotated[Reloader, Depends(_reloader)]
InjectedIntake = Annotated[Intake, Depends(_intake)]
NeighborCount = Annotated[
    int | None, Query(ge=0, le=100, description="neighbors to return", examples=[5])
]

_FILE = {"type": "string", "format": "binary"}
_PICTURE = {"schema": _FILE, "example": examples.FILE}
_FORM = {
    "schema": {"type": "object", "required": [FIELD], "properties": {FIELD: _FILE}},
    "example": {FIELD: examples.FILE},
}
_FORM_OF_SEVERAL = {
    "schema": {
        "type": "object",
        "required": [FIELD],
        "properties": {FIELD: {"type": "array", "minItems": 1, "items": _FILE}},
    },
    "example": {FIELD: [examples.FILE, examples.FILE]},
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": _FORM,
        "image/*": _PICTURE,
        "application/octet-stream": _PICTURE,
    },
}
_BODY_OF_SEVERAL = {"required": True, "content": {"multipart/form-data": _FORM_OF_SEVERAL}}
_WORDS = {
    400: "The picture is damaged, or the form is broken.",
    401: "A key is needed, and none that is known was sent.",
    403: "No admin key is configured.",
    404: "The gallery has no such picture to show.",
    408: "The body did not arrive in time.",
    409: "What is published cannot be served; what was served before still is.",
    413: "The picture has too many bytes or pixels.",
    415: "This is not a picture of a format that is read.",
    422: "A parameter or the form is wrong.",
    429: "Too many pictures wait, most of them this client's; `Retry-After` says when to come.",
    500: "The service failed; its log tells more under the request id.",
    503: "The service is full or not ready; `Retry-After` says when to come.",
    504: "The answer was not ready in time.",
}


_RETRY_AFTER = {
    "Retry-After": {
        "description": "Whole seconds after which to come again.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_HEADERS = {429: _RETRY_AFTER, 503: _RETRY_AFTER}

_Responses = dict[int | str, dict[str, Any]]


def _answers(example: BaseModel) -> _Responses:
    """Describe the answer of one address for OpenAPI, by an example."""
    content = {"application/json": {"example": example.model_dump(mode="json")}}
    return {200: {"content": content}}


def _problems(*statuses: int) -> _Responses:
    """Describe the failures of one address for OpenAPI; every one can fail with 500."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}  # there since Outcome has one

    def describe(status: int) -> dict[str, Any]:
        example = examples.PROBLEMS[status].model_dump(mode="json")
        content = {"application/problem+json": {"schema": schema, "example": example}}
        described = {"description": _WORDS[status], "content": content}
        return described | ({"headers": _HEADERS[status]} if status in _HEADERS else {})

    return {status: describe(status) for status in (*statuses, 500)}


_RECEIVING = (400, 401, 408, 413, 422, 429, 503)


@api.post(
    "/predict",
    openapi_extra={"requestBody": _BODY},
    responses=_answers(examples.ANSWER) | _problems(*_RECEIVING, 415, 504),
)
async def predict(
    request: Request,
    client: Asking,
    batcher: OpenBatcher,
    intake: InjectedIntake,
    k: NeighborCount = None,
) -> Answer:
    """Name the landmark of one picture (JPEG, PNG, WebP or GIF)."""
    request.scope["cairn.asks_of_picture"] = True
    batcher.refuse_if_full(client)
    with intake.begin(request) as reading:
        picture = await reading.picture()
        return await unless_left(request, batcher.answer(picture, k, client=client))


@api.post(
    "/predict/batch",
    openapi_extra={"requestBody": _BODY_OF_SEVERAL},
    responses=_answers(examples.OUTCOMES) | _problems(*_RECEIVING),
)
async def predict_batch(
    request: Request,
    client: Asking,
    batcher: OpenBatcher,
    intake: InjectedIntake,
    k: NeighborCount = None,
) -> Outcomes:
    """Name the landmarks of several pictures; one that is refused leaves the others be."""
    request.scope["cairn.asks_of_picture"] = True  # of one, until it is known of how many
    batcher.refuse_if_full(client)
    with intake.begin(request) as reading:
        uploads = await reading.pictures(request.app.state.max_pictures)
        identity = request_id(request.scope)

        async def outcome(upload: Upload) -> Outcome:
            try:
                answer = await batcher.answer(upload.data, k, client=client)
            except (CairnError, RequestError) as error:
                problem = problem_of(error, identity)
                batcher.count(problem.code)
                return Outcome(name=upload.name, problem=problem)
            batcher.count("answered")
            return Outcome(name=upload.name, answer=answer)

        async def outcomes() -> list[Outcome]:
            return await asyncio.gather(*map(outcome, uploads))

        told = Outcomes(outcomes=tuple(await unless_left(request, outcomes())))
        request.scope["cairn.asks_of_picture"] = False  # each was counted by itself
        return told


@api.get(
    "/landmarks",
    dependencies=[Depends(_client)],
    responses=_answers(examples.LANDMARKS) | _problems(401, 422, 503),
)
async def landmarks(
    batcher: OpenBatcher,
    offset: Annotated[
        int, Query(ge=0, le=1 << 31, description="landmarks to pass over", examples=[0])
    ] = 0,
    limit: Annotated[
        int, Query(ge=1, le=1000, description="most landmarks to return", examples=[100])
    ] = 100,
) -> Landmarks:
    """Tell which landmarks the gallery shows."""
    return batcher.recognizer.landmarks(offset, limit)


_JPEG: _Responses = {
    200: {
        "description": "The picture, small.",
        "content": {"image/jpeg": {"schema": _FILE, "example": "(the bytes of a JPEG)"}},
    },
    304: {"description": "The picture is still the one of the `ETag` that was sent."},
}
_KEPT = "private, no-cache"  # asked for again by its tag: it may have been removed


@api.get(
    "/pictures/{picture:path}",
    dependencies=[Depends(_client)],
    response_class=Response,
    responses=_JPEG | _problems(401, 404, 503),
)
async def picture(
    batcher: OpenBatcher,
    picture: Annotated[
        str,
        Path(description="id, as a neighbor of an answer has it", examples=[examples.PICTURE]),
    ],
    gallery: Annotated[
        str | None,
        Query(
            description="build that must be serving; by default any", examples=[examples.GALLERY]
        ),
    ] = None,
    if_none_match: Annotated[
        str | None,
        Header(description="`ETag` of the picture that is there", examples=[examples.ETAG]),
    ] = None,
) -> Response:
    """Show a picture of the gallery, where it was built with thumbnails."""
    data = await asyncio.to_thread(batcher.recognizer.thumbnail, picture, gallery)
    headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"', "Cache-Control": _KEPT}
    if is_held(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


@operation.get("/healthz", responses=_answers(examples.ALIVE) | _problems())
async def healthz() -> Alive:
    """Say that the process is alive."""
    return Alive()


@operation.get("/readyz", responses=_answers(examples.READY) | _problems(503))
async def readyz(batcher: OpenBatcher, reloader: OpenReloader) -> Ready:
    """Say whether the service can answer, and with what."""
    ready = batcher.recognizer.describe()
    return ready.model_copy(update={"refused": reloader.refusal})


_METRICS: _Responses = {200: {"content": {"text/plain": {"example": examples.METRICS}}}}


@operation.get("/metrics", response_class=PlainTextResponse, responses=_METRICS | _problems())
async def metrics(request: Request) -> Response:
    """Tell Prometheus how the service does."""
    return Response(request.app.state.metrics.expose(), media_type=CONTENT_TYPE)


@operation.post(
    "/admin/reload",
    dependencies=[Depends(_admin)],
    responses=_answers(examples.READY) | _problems(401, 403, 409, 503),
)
async def reload(reloader: OpenReloader) -> Ready:
    """Switch to the embedder and gallery that are published now, without dropping a request."""
    return await reloader.reload()
