"""The addresses of the service. No logic: read, ask, answer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse

from service.batching import Batcher
from service.disconnects import unless_left
from service.errors import NotReadyError
from service.metrics import CONTENT_TYPE
from service.schemas import Alive, Answer, Problem, Ready
from service.uploads import FIELD, Intake

router = APIRouter()


def _batcher(request: Request) -> Batcher:
    batcher: Batcher | None = request.app.state.batcher
    if batcher is None:
        raise NotReadyError("no gallery is open")
    return batcher


def _intake(request: Request) -> Intake:
    intake: Intake = request.app.state.intake
    return intake


def _client(request: Request) -> str:
    """Say who asks, as far as turns are concerned."""
    return request.client.host if request.client else ""


OpenBatcher = Annotated[Batcher, Depends(_batcher)]
InjectedIntake = Annotated[Intake, Depends(_intake)]
Asking = Annotated[str, Depends(_client)]

_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "type": "object",
    "required": [FIELD],
    "properties": {FIELD: {"type": "string", "format": "binary"}},
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FORM},
        "image/*": _PICTURE,
        "application/octet-stream": _PICTURE,
    },
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the failures of one address for OpenAPI."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"content": content} for status in statuses}


@router.post(
    "/predict",
    openapi_extra={"requestBody": _BODY},
    responses=_problems(400, 408, 413, 415, 422, 429, 500, 503, 504),
)
async def predict(
    request: Request,
    batcher: OpenBatcher,
    intake: InjectedIntake,
    client: Asking,
    k: Annotated[int | None, Query(ge=0, le=100, description="neighbors to return")] = None,
) -> Answer:
    """Name the landmark of one picture (JPEG, PNG, WebP or GIF)."""
    request.scope["cairn.asks_of_picture"] = True
    batcher.refuse_if_full(client)
    with intake.begin(request) as reading:
        picture = await reading.picture()
        return await unless_left(request, batcher.answer(picture, k, client=client))


@router.get("/healthz")
async def healthz() -> Alive:
    """Say that the process is alive."""
    return Alive()


@router.get("/readyz", responses=_problems(503))
async def readyz(batcher: OpenBatcher) -> Ready:
    """Say whether the service can answer, and with what."""
    return batcher.recognizer.describe()


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Tell Prometheus how the service does."""
    return Response(request.app.state.metrics.expose(), media_type=CONTENT_TYPE)
