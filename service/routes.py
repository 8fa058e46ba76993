"""The addresses of the service. No logic: read, ask, answer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from service.errors import NotReadyError
from service.recognizer import Recognizer
from service.schemas import Alive, Answer, Problem, Ready
from service.settings import Settings
from service.uploads import FIELD, read_picture

router = APIRouter()


def _recognizer(request: Request) -> Recognizer:
    recognizer: Recognizer | None = request.app.state.recognizer
    if recognizer is None:
        raise NotReadyError("no gallery is open")
    return recognizer


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


OpenRecognizer = Annotated[Recognizer, Depends(_recognizer)]
InjectedSettings = Annotated[Settings, Depends(_settings)]

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
    responses=_problems(400, 413, 415, 422, 500, 503),
)
async def predict(
    request: Request,
    recognizer: OpenRecognizer,
    settings: InjectedSettings,
    k: Annotated[int | None, Query(ge=0, le=100, description="neighbors to return")] = None,
) -> Answer:
    """Name the landmark of one picture (JPEG, PNG, WebP or GIF)."""
    picture = await read_picture(request, max_bytes=settings.max_bytes)
    return await recognizer.recognize(picture, k)


@router.get("/healthz")
async def healthz() -> Alive:
    """Say that the process is alive."""
    return Alive()


@router.get("/readyz", responses=_problems(503))
async def readyz(recognizer: OpenRecognizer) -> Ready:
    """Say whether the service can answer, and with what."""
    return recognizer.describe()
