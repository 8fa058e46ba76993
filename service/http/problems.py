"""The one table from errors to HTTP: status, code and meaning.

Nothing else knows a status but :mod:`service.lifecycle.connection`, for what never becomes a
request.

Errors reach a client as ``application/problem+json`` with a stable ``code``. Texts about the
client's own request or picture are shown to it. Every other failure is about our files and
machines: the client gets the table's general sentence, and the log gets the error, under the same
request id.
"""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from embedder import errors
from embedder.errors import CairnError, PictureError
from service.contract.schemas import ParameterFault, Problem
from service.http.errors import (
    AdminOffError,
    BodyTooLargeError,
    FieldError,
    HostRefusedError,
    JsonError,
    KeyRefusedError,
    MultipartError,
    NotReadyError,
    RequestTimeoutError,
    TooSlowError,
)
from service.http.unread_body import UnreadBodyResponse
from service.inference.errors import (
    AbandonedError,
    BusyError,
    DeadlineError,
    ForkServerDiedError,
    IdUnknownError,
    NothingToSearchError,
    OutOfMemoryError,
    OverloadedError,
    PictureUnknownError,
    RequestRefusedError,
    StoppingError,
    TooManyPicturesError,
    WorkerDiedError,
)
from service.lifecycle.connection import HEAD_TOO_LARGE
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

    status: int
    code: str
    meaning: str


_INTERNAL = Rule(
    500, "internal", "the service failed to answer; its log has the cause under this request id"
)
_NOT_READY = Rule(503, "not-ready", "the service cannot answer at the moment")

RULES: Mapping[type[Exception], Rule] = {
    Exception: _INTERNAL,
    CairnError: _INTERNAL,
    # The request.
    MultipartError: Rule(400, "multipart-malformed", "the multipart form cannot be read"),
    JsonError: Rule(400, "json-malformed", "the JSON cannot be read, or has no picture in base64"),
    KeyRefusedError: Rule(401, "key-refused", "a known API key is needed in X-API-Key"),
    AdminOffError: Rule(403, "admin-off", "no admin key is configured"),
    PictureUnknownError: Rule(404, "picture-unknown", "the gallery has no such picture to show"),
    RequestTimeoutError: Rule(408, "request-timeout", "the body did not arrive in time"),
    BodyTooLargeError: Rule(413, "body-too-large", "the picture has too many bytes"),
    HostRefusedError: Rule(421, "host-refused", "the service is not asked by this host name"),
    RequestValidationError: Rule(422, "bad-parameters", "a parameter is wrong"),
    FieldError: Rule(422, "bad-form", "the body does not hold the pictures in the expected field"),
    IdUnknownError: Rule(422, "id-unknown", "the gallery has no landmark or picture of this id"),
    NothingToSearchError: Rule(422, "nothing-to-search", "no picture is left to compare with"),
    RequestRefusedError: Rule(400, "request-refused", "the request cannot be answered"),
    ClientDisconnect: Rule(400, "client-left", "the client left before it had sent the picture"),
    # The picture.
    PictureError: Rule(400, "picture-refused", "the picture cannot be used"),
    errors.PictureUndecodableError: Rule(400, "picture-undecodable", "the picture is damaged"),
    errors.PictureFormatError: Rule(415, "not-a-picture", "this is no picture that is read"),
    errors.PictureTooLargeError: Rule(413, "picture-too-large", "the picture has too many pixels"),
    # What is served.
    NotReadyError: _NOT_READY,
    ReloadRefusedError: Rule(409, "reload-refused", "the published gallery cannot be served"),
    errors.ArtifactError: _NOT_READY,
    errors.ArtifactMissingError: _NOT_READY,
    errors.ArtifactDamagedError: _NOT_READY,
    errors.ArtifactMismatchError: _NOT_READY,
    errors.GalleryError: _NOT_READY,
    errors.NoGalleryError: _NOT_READY,
    errors.StoreBusyError: _NOT_READY,
    errors.DeviceError: _NOT_READY,
    ForkServerDiedError: _NOT_READY,
    # Capacity.
    TooManyPicturesError: Rule(429, "too-many-pictures", "too many of your pictures wait"),
    BusyError: Rule(503, "overloaded", "the service is full"),
    OverloadedError: Rule(503, "overloaded", "the service is full"),
    TooSlowError: Rule(503, "too-slow", "other pictures need the memory of this one"),
    OutOfMemoryError: Rule(503, "out-of-memory", "there is no memory for the picture now"),
    StoppingError: Rule(503, "stopping", "the service is shutting down"),
    WorkerDiedError: Rule(500, "worker-died", "the processes that worked on the picture died"),
    DeadlineError: Rule(504, "deadline", "the picture was not answered in time"),
    # Not raised while requests are answered.
    AbandonedError: _INTERNAL,
    errors.TooManyUnreadableError: _INTERNAL,
    errors.PublishRefusedError: _INTERNAL,
    errors.CatalogError: _INTERNAL,
    errors.RecipeError: _INTERNAL,
    errors.RunInterruptedError: _INTERNAL,
    errors.TrainingError: _INTERNAL,
    errors.DownloadError: _INTERNAL,
}
"""Every error of the program; a test proves that none is missing.

The first entry of a status is its example in the OpenAPI document.
"""

DESCRIBED = (*RULES.values(), Rule(431, HEAD_TOO_LARGE.code, HEAD_TOO_LARGE.detail))
"""What a client may see of any endpoint: also that the head of its request was too large."""

_ROUTING = {
    404: "there is nothing at this address",
    405: "this address does not take this method",
}


def install_problems(app: FastAPI) -> None:
    """Make every failure of ``app`` a problem document."""
    for kind in (CairnError, RequestValidationError, HTTPException, ClientDisconnect, Exception):
        app.exception_handler(kind)(respond)


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
        title=HTTPStatus(rule.status).phrase,
        status=rule.status,
        code=rule.code,
        detail=detail,
        request_id=request_id(),
        faults=faults,
        retry_after=_retry_after(error, rule.status),
    )


async def respond(request: Request, error: Exception) -> Response:
    """Answer with a problem; where the client may still be sending, let it see the answer."""
    problem, record = problem_of(error), record_of(request.scope)
    record.outcomes.append(problem.code)
    kind = Response if record.body_received else UnreadBodyResponse
    return kind(
        problem.model_dump_json(),
        status_code=problem.status,
        headers=_headers(error, problem),
        media_type="application/problem+json",
    )


def _headers(error: Exception, problem: Problem) -> Mapping[str, str] | None:
    if problem.retry_after is not None:
        return {"Retry-After": str(problem.retry_after)}
    if isinstance(error, KeyRefusedError):
        return {"WWW-Authenticate": "X-API-Key"}
    return error.headers if isinstance(error, HTTPException) else None


def _retry_after(error: Exception, status: int) -> int | None:
    """Return the whole seconds after which to ask again: an estimate where there is one."""
    if isinstance(error, BusyError):
        return whole_seconds(error.wait_seconds)
    return 5 if status == HTTPStatus.SERVICE_UNAVAILABLE else None


def whole_seconds(seconds: float) -> int:
    """Round an estimate to 1 to 60 seconds.

    >>> whole_seconds(0.2), whole_seconds(2.1), whole_seconds(500)
    (1, 3, 60)
    """
    return max(1, min(60, math.ceil(seconds)))
