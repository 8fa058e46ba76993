"""What both clients have in common: requests, retries, and what a reply means. It sends nothing.

An exchange is a generator: it yields each attempt, is sent what came back, and returns the answer.
:mod:`cairn_client.client` runs it, waiting or awaiting.
"""

import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import httpx

from cairn_client.answers import Problem
from cairn_client.errors import (
    ServiceBusyError,
    ServiceError,
    ServiceFailedError,
    ServiceRefusedError,
    ServiceUnreachableError,
)
from cairn_client.json_shapes import parse
from cairn_client.retry import BUSY, Attempts, Reply, RetryPolicy, retry_after

_CONNECT_SECONDS = 5.0  # per attempt: a lost packet must not use up the whole timeout

_T = TypeVar("_T")

Found = Reply | httpx.RequestError
"""What came back: a reply, or the reason why there is none."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Wait ``pause_seconds``, then send ``request`` and allow ``timeout_seconds`` for all of it."""

    pause_seconds: float
    request: httpx.Request
    timeout_seconds: float


Exchange = Generator[Attempt, Found, _T]
"""The attempts of one call; returns its answer, or raises ``ServiceError``."""


@dataclass(frozen=True, slots=True)
class Question(Generic[_T]):
    """One request, and how its reply is read.

    Attributes:
        method: Of HTTP.
        path: Below the service's address.
        read: Converts the reply; raises ``ValueError`` if it cannot be one of the service.
        options: Of :meth:`httpx.Client.build_request`.
    """

    method: str
    path: str
    read: Callable[[Reply], _T]
    options: Mapping[str, Any] = field(default_factory=dict)


class AnyClient:
    """What both clients have in common.

    Args:
        http: Makes the requests, with the service's address and key.
        policy: Timeout and retries of each call.
    """

    def __init__(self, http: httpx.Client | httpx.AsyncClient, policy: RetryPolicy) -> None:
        self._make_request = http.build_request
        self._policy = policy

    def attempts(self) -> Attempts:
        """Begin the time of one call."""
        return Attempts(self._policy)

    def ask(
        self, question: Question[_T], attempts: Attempts | None = None, pause: float = 0.0
    ) -> Exchange[_T]:
        """Send one request until there is an answer or no further attempt.

        Args:
            question: The request.
            attempts: What is left to the call; all of it by default.
            pause: Seconds to wait before the first attempt.

        Raises:
            ServiceError: There is no answer.
        """
        attempts = attempts or self.attempts()
        request_id = uuid.uuid4().hex  # one for all attempts
        while True:
            seconds = attempts.seconds_left(pause)
            request = self._make_request(
                question.method,
                question.path,
                headers={"X-Request-ID": request_id},
                timeout=httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
                **question.options,
            )
            found = yield Attempt(pause, request, seconds)
            next_pause = attempts.pause_after(found)
            if next_pause is None:
                return _conclude(found, question, request_id)
            pause = next_pause


def _conclude(found: Found, question: Question[_T], request_id: str) -> _T:
    """Return the answer, or raise the ``ServiceError`` for what was found instead."""
    if isinstance(found, httpx.RequestError):
        where, why = found.request.url.netloc.decode(), str(found) or type(found).__name__
        reason = f"no answer from {where}: {why}"
        raise ServiceUnreachableError(reason, request_id=request_id) from found
    if found.status != HTTPStatus.OK:
        raise _error(found, request_id)
    try:
        return question.read(found)
    except ValueError as error:
        raise ServiceFailedError(
            "what answered is no Cairn service, or one of another version",
            status=found.status,
            request_id=request_id,
        ) from error


def _error(reply: Reply, request_id: str) -> ServiceError:
    kind: type[ServiceError] = ServiceFailedError
    if reply.status in BUSY:
        kind = ServiceBusyError
    elif HTTPStatus.BAD_REQUEST <= reply.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = ServiceRefusedError
    reason, code = "what answered did not say what is wrong", ""
    with suppress(ValueError):
        problem = parse(Problem, reply.body)
        reason, code, request_id = problem.detail, problem.code, problem.request_id
    error = kind(reason, status=reply.status, code=code, request_id=request_id)
    if isinstance(error, ServiceBusyError):
        error.retry_after_seconds = retry_after(reply.headers)
    return error
