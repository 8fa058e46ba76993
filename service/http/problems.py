"""The one table from errors to HTTP: status, code and meaning. Nothing else knows a status.

Errors reach a client as ``application/problem+json`` with a stable ``code``. Texts about the
client's own request or picture are shown to it. Every other failure is about our files and
machines: the client gets the table's general sentence, and the log gets the error, under the same
request id.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from embedder.errors import (
    ArtifactDamagedError,
    ArtifactError,
    ArtifactMismatchError,
    ArtifactMissingError,
    CairnError,
    CatalogError,
    DeviceError,
    DownloadError,
    GalleryError,
    NoGalleryError,
    PictureError,
    PictureFormatError,
    PictureTooLargeError,
    PictureUndecodableError,
    RecipeError,
    ServiceBusyError,
    ServiceError,
    ServiceFailedError,
    ServiceRefusedError,
    ServiceUnreachableError,
    StoreBusyError,
    TooManyUnreadableError,
    TrainingError,
)
from service.contract.schemas import ParameterFault, Problem
from service.http.errors import (
    AdminOffError,
    BodyTooLargeError,
    FieldError,
    KeyRefusedError,
    MultipartError,
    NotReadyError,
    RequestTimeoutError,
)
from service.http.unread_body import UnreadBodyResponse
from service.inference.errors import (
    BusyError,
    DeadlineError,
    OutOfMemoryError,
    OverloadedError,
    PictureUnknownError,
    RequestRefusedError,
    StoppingError,
    TooManyPicturesError,
)
from service.lifecycle.reload import ReloadRefusedError
from service.telemetry.request_record import record_of, request_id

log = logging.getLogger(__name__)


class Rule(NamedTuple):
    """How one kind of failure looks from outside.

    Attributes:
        status: The HTTP status.
        code: Stable name, for programs.
        meaning: A sentence without particulars: for the OpenAPI document, and for clients where
            the error's own text is not for them.
    """

    status: HTTPStatus
    code: str
    meaning: str


_INTERNAL = Rule(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "internal",
    "the service failed to answer; its log has the cause under this request id",
)
_NOT_READY = Rule(
    HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "the service cannot answer at the moment"
)

RULES: Mapping[type[Exception], Rule] = {
    Exception: _INTERNAL,
    CairnError: _INTERNAL,
    # The request.
    MultipartError: Rule(
        HTTPStatus.BAD_REQUEST, "multipart-malformed", "the multipart form cannot be read"
    ),
    KeyRefusedError: Rule(
        HTTPStatus.UNAUTHORIZED,
        "key-refused",
        "an API key is needed in the header X-API-Key, and no known one was sent",
    ),
    AdminOffError: Rule(HTTPStatus.FORBIDDEN, "admin-off", "no admin key is configured"),
    PictureUnknownError: Rule(
        HTTPStatus.NOT_FOUND, "picture-unknown", "the gallery has no such picture to show"
    ),
    RequestTimeoutError: Rule(
        HTTPStatus.REQUEST_TIMEOUT, "request-timeout", "the body did not arrive in time"
    ),
    BodyTooLargeError: Rule(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", "the picture has too many bytes"
    ),
    RequestValidationError: Rule(
        HTTPStatus.UNPROCESSABLE_ENTITY, "bad-parameters", "a parameter is wrong"
    ),
    FieldError: Rule(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "bad-form",
        'the form does not hold the pictures in the field "file"',
    ),
    RequestRefusedError: Rule(
        HTTPStatus.BAD_REQUEST, "request-refused", "the request cannot be answered"
    ),
    ClientDisconnect: Rule(
        HTTPStatus.BAD_REQUEST, "client-left", "the client left before it had sent the picture"
    ),
    # The picture.
    PictureError: Rule(HTTPStatus.BAD_REQUEST, "picture-refused", "the picture cannot be used"),
    PictureUndecodableError: Rule(
        HTTPStatus.BAD_REQUEST, "picture-undecodable", "the picture is damaged"
    ),
    PictureFormatError: Rule(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "not-a-picture",
        "this is not a picture of a supported format; send a JPEG, PNG, WebP or GIF",
    ),
    PictureTooLargeError: Rule(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "picture-too-large",
        "the picture has too many bytes or pixels",
    ),
    # What is served.
    NotReadyError: _NOT_READY,
    ReloadRefusedError: Rule(
        HTTPStatus.CONFLICT,
        "reload-refused",
        "the published gallery or embedder cannot be served; the previous ones still are",
    ),
    ArtifactError: _NOT_READY,
    ArtifactMissingError: _NOT_READY,
    ArtifactDamagedError: _NOT_READY,
    ArtifactMismatchError: _NOT_READY,
    GalleryError: _NOT_READY,
    NoGalleryError: _NOT_READY,
    StoreBusyError: _NOT_READY,
    DeviceError: _NOT_READY,
    # Capacity.
    TooManyPicturesError: Rule(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-pictures",
        "the queues are full, most of all of this client's pictures",
    ),
    BusyError: Rule(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", "the service is full"),
    OverloadedError: Rule(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", "the service is full"),
    OutOfMemoryError: Rule(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "out-of-memory",
        "there is no memory for the picture at the moment",
    ),
    StoppingError: Rule(HTTPStatus.SERVICE_UNAVAILABLE, "stopping", "the service is shutting down"),
    DeadlineError: Rule(
        HTTPStatus.GATEWAY_TIMEOUT, "deadline", "the picture was not answered in time"
    ),
    # Not raised while requests are answered.
    TooManyUnreadableError: _INTERNAL,
    CatalogError: _INTERNAL,
    RecipeError: _INTERNAL,
    TrainingError: _INTERNAL,
    DownloadError: _INTERNAL,
    ServiceError: _INTERNAL,
    ServiceRefusedError: _INTERNAL,
    ServiceBusyError: _INTERNAL,
    ServiceFailedError: _INTERNAL,
    ServiceUnreachableError: _INTERNAL,
}
"""Every error of the program; a test proves that none is missing.

The first entry of a status is its example in the OpenAPI document.
"""

_ROUTING = {
    HTTPStatus.NOT_FOUND: "there is nothing at this address",
    HTTPStatus.METHOD_NOT_ALLOWED: "this address does not take this method",
}


def install_problems(app: FastAPI) -> None:
    """Make every failure of ``app`` a problem document."""
    for kind in (CairnError, RequestValidationError, HTTPException, ClientDisconnect, Exception):
        app.exception_handler(kind)(_respond)


def rule_of(error: Exception) -> Rule:
    """Look an error up: the entry of its class, or of the nearest class that it derives from."""
    if isinstance(error, HTTPException):  # raised by the router
        status = HTTPStatus(error.status_code)
        meaning = _ROUTING.get(status, status.description or status.phrase)
        return Rule(status, status.phrase.lower().replace(" ", "-"), meaning)
    return next(RULES[kind] for kind in type(error).__mro__ if kind in RULES)


def problem_of(error: Exception) -> Problem:
    """Describe a failure to the client; log it where the client is not told its cause."""
    rule, faults = rule_of(error), None
    detail = rule.meaning
    if isinstance(error, RequestRefusedError | PictureError):
        detail = error.reason
    elif isinstance(error, RequestValidationError):
        faults = tuple(
            ParameterFault(where=".".join(map(str, fault["loc"])), message=fault["msg"])
            for fault in error.errors()
        )
        detail = "; ".join(f"{fault.where}: {fault.message}" for fault in faults)
    elif isinstance(error, CairnError):  # the server logs what nobody foresaw
        log.error("%s", error, exc_info=error)
    return Problem(
        title=rule.status.phrase,
        status=rule.status,
        code=rule.code,
        detail=detail,
        request_id=request_id(),
        faults=faults,
    )


async def _respond(request: Request, error: Exception) -> Response:
    """Answer with a problem; where the client may still be sending, let it see the answer."""
    problem, record = problem_of(error), record_of(request.scope)
    record.outcomes.append(problem.code)
    kind = Response if record.body_received else UnreadBodyResponse
    return kind(
        problem.model_dump_json(),
        status_code=problem.status,
        headers=_headers(error, problem.status),
        media_type="application/problem+json",
    )


def _headers(error: Exception, status: int) -> Mapping[str, str] | None:
    if isinstance(error, BusyError):
        return {"Retry-After": str(retry_after(error.wait_seconds))}
    if isinstance(error, KeyRefusedError):
        return {"WWW-Authenticate": "X-API-Key"}
    if isinstance(error, HTTPException):
        return error.headers
    return {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None


def retry_after(seconds: float) -> int:
    """Return the whole seconds after which to ask again, 1 to 60, from an estimate.

    >>> retry_after(0.2), retry_after(2.1), retry_after(500)
    (1, 3, 60)
    """
    return max(1, min(60, math.ceil(seconds)))
