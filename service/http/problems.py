"""Where failures become HTTP: the one module that knows a status.

Errors reach a client as ``application/problem+json`` with a stable ``code``. The words are ours:
those of :class:`~embedder.errors.PictureError` are about the client's own picture and are shown;
every other failure is about our files and machines, so the client gets a general sentence and the
log gets the particulars, under the same request id.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
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
from service.http.lingering import LingeringResponse
from service.telemetry.request_id import HEADER, is_received, request_id

log = logging.getLogger(__name__)


class Rule(NamedTuple):
    """How one kind of failure looks from outside. ``detail`` empty: the error's own words."""

    status: HTTPStatus
    code: str
    detail: str = ""


class RequestError(Exception):
    """A request that is wrong as HTTP, before any picture is looked at."""

    rule: Rule

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class BodyTooLargeError(RequestError):
    """The body is larger than a picture may be; the rest of it was not read."""

    rule = Rule(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large")


class MultipartError(RequestError):
    """The multipart body does not follow its own boundary, or stops before its end."""

    rule = Rule(HTTPStatus.BAD_REQUEST, "multipart-malformed")


class FieldError(RequestError):
    """The form does not hold exactly one picture under the agreed name."""

    rule = Rule(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-form")


class RequestTimeoutError(RequestError):
    """The client took too long to send its body."""

    rule = Rule(HTTPStatus.REQUEST_TIMEOUT, "request-timeout")


class KeyRefusedError(RequestError):
    """The request brings no key where one is needed, or one that is not known."""

    rule = Rule(HTTPStatus.UNAUTHORIZED, "key-refused")


class AdminOffError(RequestError):
    """Nobody may give this order, since no key for it is configured."""

    rule = Rule(HTTPStatus.FORBIDDEN, "admin-off")


class PictureUnknownError(RequestError):
    """The gallery that serves has no picture of this id to show."""

    rule = Rule(HTTPStatus.NOT_FOUND, "picture-unknown")


class ReloadRefusedError(RequestError):
    """What is published cannot be served; what was served before still is."""

    rule = Rule(HTTPStatus.CONFLICT, "reload-refused")


class NotReadyError(RequestError):
    """No gallery is open."""

    rule = Rule(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready")


class DeadlineError(RequestError):
    """The picture was not answered in time."""

    rule = Rule(HTTPStatus.GATEWAY_TIMEOUT, "deadline")


class BusyError(RequestError):
    """There is more to do than can be done; ``wait_seconds`` is a guess at when that is over."""

    def __init__(self, reason: str, wait_seconds: float = 0) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(reason)


class OverloadedError(BusyError):
    """The lines are full."""

    rule = Rule(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded")


class TooManyRequestsError(BusyError):
    """The lines are full, of this client's pictures more than of others'."""

    rule = Rule(HTTPStatus.TOO_MANY_REQUESTS, "too-many-pictures")


class OutOfMemoryError(BusyError):
    """The memory that is left does not hold this picture; at another time it may."""

    rule = Rule(HTTPStatus.SERVICE_UNAVAILABLE, "out-of-memory")


class StoppingError(BusyError):
    """The service is about to end."""

    rule = Rule(HTTPStatus.SERVICE_UNAVAILABLE, "stopping")


_OURS = Rule(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "internal",
    "the service failed to answer; its log tells more under this request id",
)
_UNFIT = Rule(
    HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "the service cannot answer at the moment"
)

RULES: Mapping[type[CairnError], Rule] = {
    CairnError: _OURS,
    PictureError: Rule(HTTPStatus.BAD_REQUEST, "picture-refused"),
    PictureUndecodableError: Rule(HTTPStatus.BAD_REQUEST, "picture-undecodable"),
    PictureFormatError: Rule(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not-a-picture"),
    PictureTooLargeError: Rule(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "picture-too-large"),
    ArtifactError: _UNFIT,
    ArtifactMissingError: _UNFIT,
    ArtifactDamagedError: _UNFIT,
    ArtifactMismatchError: _UNFIT,
    GalleryError: _UNFIT,
    NoGalleryError: _UNFIT,
    StoreBusyError: _UNFIT,
    TooManyUnreadableError: _OURS,
    DeviceError: _UNFIT,
    CatalogError: _OURS,
    RecipeError: _OURS,
    TrainingError: _OURS,
    DownloadError: _OURS,
    ServiceError: _OURS,
    ServiceRefusedError: _OURS,
    ServiceBusyError: _OURS,
    ServiceFailedError: _OURS,
    ServiceUnreachableError: _OURS,
}
"""The look of every error of the program; a test proves that none is missing."""


@dataclass(frozen=True, slots=True)
class _Failure:
    rule: Rule
    detail: str
    faults: tuple[ParameterFault, ...] | None = None
    headers: Mapping[str, str] | None = None


def install(app: FastAPI) -> None:
    """Make every failure of ``app`` a problem document."""
    app.exception_handler(CairnError)(_on_cairn_error)
    app.exception_handler(RequestError)(_on_request_error)
    app.exception_handler(RequestValidationError)(_on_bad_parameters)
    app.exception_handler(HTTPException)(_on_http_exception)
    app.exception_handler(ClientDisconnect)(_on_disconnect)
    app.exception_handler(Exception)(_on_anything_else)


def problem_of(error: CairnError | RequestError, identity: str) -> Problem:
    """Word the failure of one picture, for an answer that tells of several.

    Args:
        error: What happened.
        identity: The id of the request.
    """
    if isinstance(error, RequestError):
        return _word(_Failure(error.rule, error.reason), identity)
    rule = _rule_of(error)
    if isinstance(error, PictureError):
        return _word(_Failure(rule, error.reason), identity)
    log.error("%s", error, exc_info=error, extra={"request_id": identity})
    return _word(_Failure(rule, rule.detail), identity)


def _rule_of(error: CairnError) -> Rule:
    return next(RULES[kind] for kind in type(error).__mro__ if kind in RULES)


def _word(failure: _Failure, identity: str) -> Problem:
    status, code, _ = failure.rule
    return Problem(
        title=status.phrase,
        status=status,
        code=code,
        detail=failure.detail,
        request_id=identity,
        faults=failure.faults,
    )


def _respond(request: Request, failure: _Failure) -> Response:
    """Answer with a problem; where the client may still be sending, let it notice that."""
    problem = _word(failure, request_id(request.scope))
    request.scope["cairn.outcome"] = problem.code
    kind = Response if is_received(request.scope) else LingeringResponse
    return kind(
        problem.model_dump_json(),
        status_code=problem.status,
        headers={**(failure.headers or {}), HEADER: problem.request_id},
        media_type="application/problem+json",
    )


async def _on_cairn_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CairnError)  # noqa: S101 - Starlette dispatches by type
    rule = _rule_of(error)
    if isinstance(error, PictureError):
        return _respond(request, _Failure(rule, error.reason))
    log.error("%s", error, exc_info=error, extra={"request_id": request_id(request.scope)})
    return _respond(request, _Failure(rule, rule.detail, headers=_retry(rule)))


async def _on_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101 - Starlette dispatches by type
    headers = _retry(error.rule)
    if isinstance(error, BusyError):
        headers = {"Retry-After": str(retry_after(error.wait_seconds))}
    if isinstance(error, KeyRefusedError):
        headers = {"WWW-Authenticate": "X-API-Key"}
    return _respond(request, _Failure(error.rule, error.reason, headers=headers))


def _retry(rule: Rule) -> dict[str, str] | None:
    return {"Retry-After": "5"} if rule.status == HTTPStatus.SERVICE_UNAVAILABLE else None


def retry_after(seconds: float) -> int:
    """Return the whole seconds after which to come again, from a guess at when it makes sense.

    >>> retry_after(0.2), retry_after(2.1), retry_after(500)
    (1, 3, 60)
    """
    return max(1, min(60, math.ceil(seconds)))


async def _on_bad_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - Starlette dispatches by type
    faults = tuple(
        ParameterFault(where=".".join(map(str, fault["loc"])), message=fault["msg"])
        for fault in error.errors()
    )
    detail = "; ".join(f"{fault.where}: {fault.message}" for fault in faults)
    rule = Rule(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-parameters")
    return _respond(request, _Failure(rule, detail, faults=faults))


_ROUTING = {
    HTTPStatus.NOT_FOUND: "there is nothing at this address",
    HTTPStatus.METHOD_NOT_ALLOWED: "this address does not take this method",
}


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette dispatches by type
    status = HTTPStatus(error.status_code)
    rule = Rule(status, status.phrase.lower().replace(" ", "-"))
    detail = _ROUTING.get(status, status.description or status.phrase)
    return _respond(request, _Failure(rule, detail, headers=error.headers))


async def _on_disconnect(request: Request, _error: Exception) -> Response:
    """End the request of a client that left while sending; nobody reads this response."""
    rule = Rule(HTTPStatus.BAD_REQUEST, "client-left")
    return _respond(request, _Failure(rule, "the client left before it had sent the picture"))


async def _on_anything_else(request: Request, _error: Exception) -> Response:
    """Answer for a fault of the program; the server logs it with its traceback."""
    return _respond(request, _Failure(_OURS, _OURS.detail))
