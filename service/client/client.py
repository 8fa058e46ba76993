"""Clients of a running service: :class:`Client` blocks, :class:`AsyncClient` is for asyncio.

::

    with Client("http://127.0.0.1:8000") as client:
        answer = client.predict(Path("hawa-mahal.jpg"))
        print(answer.landmark_id, answer.confidence)

Answers have the shapes of :mod:`service.contract.schemas`; fields that a newer service adds are
ignored. Every failure is a :class:`~service.contract.errors.ServiceError`. Imports nothing of the
server.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from service.client.retry import BUSY, Attempts, Reply, RetryPolicy, retry_after
from service.contract.errors import (
    ServiceBusyError,
    ServiceError,
    ServiceFailedError,
    ServiceRefusedError,
    ServiceUnreachableError,
)
from service.contract.schemas import Answer, Landmarks, Outcomes, Problem, Ready

_CONNECT_SECONDS = 5.0  # per attempt: a lost packet must not use up the whole timeout

_T = TypeVar("_T")
_Shape = TypeVar("_Shape", bound=BaseModel)
_Found = Reply | httpx.RequestError


class Client:
    """Blocking client of a service; thread-safe.

    Retries while the service is full or not ready (429, 503), never before ``Retry-After``, and
    when no connection can be made; waits double and are randomized. A wait that exceeds the
    timeout is not begun: :class:`~service.contract.errors.ServiceBusyError` says when to come
    again.

    Args:
        url: Address of the service: ``http://host:port``, with a path if it is behind one.
        key: API key, sent as ``X-API-Key``; ``None`` sends none.
        timeout_seconds: For one call, all attempts and waits included. A server that sends the
            head of its response in ever more pieces can exceed it.
        retries: Attempts after the first.

    Raises:
        ValueError: The address, the key, or one of the numbers is invalid.
    """

    def __init__(
        self, url: str, key: str | None = None, *, timeout_seconds: float = 60.0, retries: int = 4
    ) -> None:
        self._policy = RetryPolicy(timeout_seconds, retries)
        self._http = httpx.Client(base_url=_address(url), headers=_headers(key))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._http.close()

    def predict(self, picture: bytes | Path, k: int = 1) -> Answer:
        """Find the landmark that a picture shows.

        Args:
            picture: JPEG, PNG, WebP or GIF: its bytes or its path.
            k: Neighbors to return, 0 to 100.

        Raises:
            ServiceRefusedError: The picture, ``k`` or the key is refused.
            ServiceBusyError: The service was full or not ready at the last attempt too.
            ServiceFailedError: The service failed, or another program responded.
            ServiceUnreachableError: No response in time.
            OSError: The file cannot be read.
        """
        return self._ask(_predict(picture, k))

    def predict_batch(self, pictures: Sequence[bytes | Path], k: int = 1) -> Outcomes:
        """Find the landmarks of several pictures by one request; errors as for :meth:`predict`.

        Args:
            pictures: 1 to as many as the service accepts (16 by default).
            k: Neighbors to return for each.

        Returns:
            For each picture, in the same order, its answer or why there is none; named by the
            file, or by the picture's number where bytes were given.
        """
        return self._ask(_predict_batch(pictures, k))

    def landmarks(self, offset: int = 0, limit: int = 100) -> Landmarks:
        """List landmarks of the gallery, after ``offset`` others, at most ``limit`` (1 to 1000)."""
        return self._ask(_landmarks(offset, limit))

    def picture(self, picture: str) -> bytes:
        """Get a picture of the gallery as a small JPEG, by the id that a neighbor has.

        Raises:
            ServiceRefusedError: The gallery keeps no such picture (404), or the key is refused.
        """
        return self._ask(_picture(picture))

    def ready(self) -> Ready:
        """Describe the gallery and embedder in use; waits until the service is ready."""
        return self._ask(_ready())

    def reload(self) -> Ready:
        """Make the service load the published gallery; needs an admin key.

        Raises:
            ServiceRefusedError: That gallery cannot be served (409), or the key is refused.
        """
        return self._ask(_reload())

    def _ask(self, question: _Question[_T]) -> _T:
        attempts = Attempts(self._policy)
        while True:
            found = self._send(question.request(self._http, attempts.seconds_left()), attempts)
            pause = attempts.pause_after(found)
            if pause is None:
                return question.conclude(found)
            time.sleep(pause)

    def _send(self, request: httpx.Request, attempts: Attempts) -> _Found:
        """Send once. httpx bounds each wait for bytes; their sum is checked here."""
        body = bytearray()
        try:
            with closing(self._http.send(request, stream=True)) as response:
                for piece in response.iter_bytes():
                    body += piece
                    if attempts.are_over():
                        return httpx.ReadTimeout("timed out", request=request)
        except httpx.RequestError as error:
            return error
        return Reply(response.status_code, response.headers, bytes(body))


class AsyncClient:
    """:class:`Client` for asyncio, which describes the arguments; never exceeds the timeout."""

    def __init__(
        self, url: str, key: str | None = None, *, timeout_seconds: float = 60.0, retries: int = 4
    ) -> None:
        self._policy = RetryPolicy(timeout_seconds, retries)
        self._http = httpx.AsyncClient(base_url=_address(url), headers=_headers(key))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        await self._http.aclose()

    async def predict(self, picture: bytes | Path, k: int = 1) -> Answer:
        """See :meth:`Client.predict`."""
        return await self._ask(await asyncio.to_thread(_predict, picture, k))

    async def predict_batch(self, pictures: Sequence[bytes | Path], k: int = 1) -> Outcomes:
        """See :meth:`Client.predict_batch`."""
        return await self._ask(await asyncio.to_thread(_predict_batch, pictures, k))

    async def landmarks(self, offset: int = 0, limit: int = 100) -> Landmarks:
        """See :meth:`Client.landmarks`."""
        return await self._ask(_landmarks(offset, limit))

    async def picture(self, picture: str) -> bytes:
        """See :meth:`Client.picture`."""
        return await self._ask(_picture(picture))

    async def ready(self) -> Ready:
        """See :meth:`Client.ready`."""
        return await self._ask(_ready())

    async def reload(self) -> Ready:
        """See :meth:`Client.reload`."""
        return await self._ask(_reload())

    async def _ask(self, question: _Question[_T]) -> _T:
        attempts = Attempts(self._policy)
        while True:
            seconds = attempts.seconds_left()
            found = await self._send(question.request(self._http, seconds), seconds)
            pause = attempts.pause_after(found)
            if pause is None:
                return question.conclude(found)
            await asyncio.sleep(pause)

    async def _send(self, request: httpx.Request, seconds: float) -> _Found:
        try:
            async with asyncio.timeout(seconds):
                response = await self._http.send(request)
        except httpx.RequestError as error:
            return error
        except TimeoutError:
            return httpx.ReadTimeout("timed out", request=request)
        return Reply(response.status_code, response.headers, response.content)


@dataclass(frozen=True, slots=True)
class _Question(Generic[_T]):
    """One call: its request, and how the response is parsed (``ValueError`` if it cannot be)."""

    method: str
    path: str
    parse: Callable[[Reply], _T]
    options: Mapping[str, Any] = field(default_factory=dict)  # of httpx
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)  # one for all attempts

    def request(self, http: httpx.Client | httpx.AsyncClient, seconds: float) -> httpx.Request:
        """Make the request of one attempt."""
        return http.build_request(
            self.method,
            self.path,
            headers={"X-Request-ID": self.request_id},
            timeout=httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
            **self.options,
        )

    def conclude(self, found: _Found) -> _T:
        """Return the answer, or raise the ``ServiceError`` for what was found instead."""
        if isinstance(found, httpx.RequestError):
            where, why = found.request.url.netloc.decode(), str(found) or type(found).__name__
            reason = f"no answer from {where}: {why}"
            raise ServiceUnreachableError(reason, request_id=self.request_id) from found
        if found.status != HTTPStatus.OK:
            raise _error(found, self.request_id)
        try:
            return self.parse(found)
        except ValueError as error:
            raise ServiceFailedError(
                "what answered is no Cairn service, or one of another version",
                status=found.status,
                request_id=self.request_id,
            ) from error


def _error(reply: Reply, request_id: str) -> ServiceError:
    kind: type[ServiceError] = ServiceFailedError
    if reply.status in BUSY:
        kind = ServiceBusyError
    elif HTTPStatus.BAD_REQUEST <= reply.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = ServiceRefusedError
    reason, facts = "what answered did not say what is wrong", {"request_id": request_id}
    with suppress(ValidationError):
        problem = _model(Problem, reply)
        reason, facts = problem.detail, problem.model_dump(include={"code", "request_id"})
    error = kind(reason, status=reply.status, **facts)
    if isinstance(error, ServiceBusyError):
        error.retry_after_seconds = retry_after(reply.headers)
    return error


def _model(shape: type[_Shape], reply: Reply) -> _Shape:
    return shape.model_validate_json(reply.body, extra="ignore")


def _jpeg(reply: Reply) -> bytes:
    if reply.headers.get("content-type") != "image/jpeg":
        raise ValueError("the answer is no JPEG")
    return reply.body


def _predict(picture: bytes | Path, k: int) -> _Question[Answer]:
    options = {"params": {"k": k}, "content": _bytes_of(picture)}
    return _Question("POST", "v1/predict", partial(_model, Answer), options)


def _predict_batch(pictures: Sequence[bytes | Path], k: int) -> _Question[Outcomes]:
    files = [("file", (_name_of(p, number), _bytes_of(p))) for number, p in enumerate(pictures)]
    options = {"params": {"k": k}, "files": files}
    return _Question("POST", "v1/predict/batch", partial(_model, Outcomes), options)


def _landmarks(offset: int, limit: int) -> _Question[Landmarks]:
    options = {"params": {"offset": offset, "limit": limit}}
    return _Question("GET", "v1/landmarks", partial(_model, Landmarks), options)


def _picture(picture: str) -> _Question[bytes]:
    return _Question("GET", f"v1/pictures/{quote(picture, safe='')}", _jpeg)


def _ready() -> _Question[Ready]:
    return _Question("GET", "readyz", partial(_model, Ready))


def _reload() -> _Question[Ready]:
    return _Question("POST", "admin/reload", partial(_model, Ready))


def _bytes_of(picture: bytes | Path) -> bytes:
    return picture.read_bytes() if isinstance(picture, Path) else picture


def _name_of(picture: bytes | Path, number: int) -> str:
    if not isinstance(picture, Path):
        return str(number)
    return picture.name.encode(errors="replace").decode()  # a file's name may not be UTF-8


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no address: {error}") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise ValueError(f"{url!r} is no address of a service, like http://127.0.0.1:8000")
    return address


def _headers(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not key or not key.isascii() or not key.isprintable() or key != key.strip():
        # A wrong key is not repeated: it may be secret.
        raise ValueError("a key has printable ASCII characters only, and is not empty")
    return {"X-API-Key": key}
