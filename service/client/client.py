"""Ask a running service from Python, waiting (:class:`Client`) or awaiting (:class:`AsyncClient`).

::

    with Client("http://127.0.0.1:8000") as client:
        answer = client.predict(Path("hawa-mahal.jpg"))
        print(answer.landmark_id, answer.confidence)

Answers have the shapes of :mod:`service.contract.schemas`; fields that a newer service adds are
ignored. Any failure is a :class:`~service.contract.errors.ServiceError`. Nothing of the server is
imported here: a program that only asks starts fast and needs httpx alone.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from service.client.retry import Attempts, Patience, Reply, retry_after
from service.contract.errors import (
    ServiceBusyError,
    ServiceError,
    ServiceFailedError,
    ServiceRefusedError,
    ServiceUnreachableError,
)
from service.contract.schemas import Answer, Landmarks, Outcomes, Problem, Ready

_CONNECT_SECONDS = 5.0  # of one attempt: a lost packet shall not cost the whole timeout

_T = TypeVar("_T")
_Shape = TypeVar("_Shape", bound=BaseModel)


class Client:
    """Asks a service, and waits for its answers. Threads may share it.

    A service that is full or not ready (429, 503) is asked again, when its ``Retry-After`` says
    so, as is one to which no connection can be made. Waits grow and are uneven. Where it asks for
    a longer wait than the timeout leaves, nothing is waited for: a
    :class:`~service.contract.errors.ServiceBusyError` tells at once when to come again. Somebody
    who can wait that long gives a longer timeout.

    Args:
        url: Where the service is: ``http://host:port``, with a path if it is behind one.
        key: What it wants in ``X-API-Key``; ``None`` where it wants none.
        timeout_seconds: For one question, with all attempts at it and the waits between them.
            A server that sends the head of its answer in ever more pieces can exceed it.
        retries: How often a question is asked again.

    Raises:
        ValueError: The address, the key, or one of the numbers cannot be meant.
    """

    def __init__(
        self, url: str, key: str | None = None, *, timeout_seconds: float = 60.0, retries: int = 4
    ) -> None:
        self._patience = Patience(timeout_seconds, retries)
        self._http = httpx.Client(base_url=_address(url), headers=_headers(key))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; nothing can be asked afterwards."""
        self._http.close()

    def predict(self, picture: bytes | Path, k: int = 1) -> Answer:
        """Ask which landmark a picture shows.

        Args:
            picture: A JPEG, PNG, WebP or GIF: the bytes of the file, or where it is.
            k: Neighbors to tell of, 0 to 100.

        Raises:
            ServiceRefusedError: The picture, ``k`` or the key is refused.
            ServiceBusyError: The service is full or not ready, and still was at the last attempt;
                ``retry_after_seconds`` says for how long it asks to be left alone.
            ServiceFailedError: The service failed, or what answered is none.
            ServiceUnreachableError: Nothing came back, or not in time.
            OSError: The file cannot be read.
        """
        return self._ask(_predict(picture, k))

    def predict_batch(self, pictures: Sequence[bytes | Path], k: int = 1) -> Outcomes:
        """Ask which landmarks several pictures show, by one request.

        Args:
            pictures: As for :meth:`predict`, 1 to as many as the service takes (16 by default).
            k: Neighbors to tell of, for each.

        Returns:
            An outcome for each picture, in the same order: its answer, or why there is none. Its
            name is that of the file, or the number of the picture where there was none.

        Raises:
            ServiceError: As for :meth:`predict`, for all of the pictures.
            OSError: A file cannot be read.
        """
        return self._ask(_predict_batch(pictures, k))

    def landmarks(self, offset: int = 0, limit: int = 100) -> Landmarks:
        """Ask which landmarks the gallery shows.

        Args:
            offset: Landmarks to pass over.
            limit: Most landmarks to return, 1 to 1000.

        Raises:
            ServiceError: As for :meth:`predict`.
        """
        return self._ask(_landmarks(offset, limit))

    def picture(self, picture: str) -> bytes:
        """Ask for a picture of the gallery, as a small JPEG.

        Args:
            picture: Its id, as a neighbor of an answer has it.

        Raises:
            ServiceRefusedError: There is none of this id to show (404), or the key is refused.
            ServiceError: As for :meth:`predict`.
        """
        return self._ask(_picture(picture))

    def ready(self) -> Ready:
        """Ask what answers; a service that is not ready yet is waited for, as with any question.

        Raises:
            ServiceError: As for :meth:`predict`.
        """
        return self._ask(_ready())

    def reload(self) -> Ready:
        """Let the service switch to what is published now; the key must be an admin's.

        Returns:
            What answers from now on.

        Raises:
            ServiceRefusedError: What is published cannot be served (409), or the key is refused.
            ServiceError: As for :meth:`predict`.
        """
        return self._ask(_reload())

    def _ask(self, question: _Question[_T]) -> _T:
        attempts = Attempts(self._patience)
        while True:
            found = self._send(question.request(self._http, attempts.seconds_left()), attempts)
            pause = attempts.pause_after(found)
            if pause is None:
                return question.conclude(found)
            time.sleep(pause)

    def _send(self, request: httpx.Request, attempts: Attempts) -> Reply | httpx.RequestError:
        """Ask once. Each wait for bytes is bounded, and what they come to is looked at here."""
        body = bytearray()
        try:
            with closing(self._http.send(request, stream=True)) as response:
                for piece in response.iter_bytes():
                    body += piece
                    if attempts.are_over():
                        return httpx.ReadTimeout("the time is over", request=request)
        except httpx.RequestError as error:
            return error
        return Reply(response.status_code, response.headers, bytes(body))


class AsyncClient:
    """Asks a service, and awaits its answers: :class:`Client` for asyncio.

    Args:
        url: Where the service is, as for :class:`Client`, which tells of the others, too.
        key: What it wants in ``X-API-Key``; ``None`` where it wants none.
        timeout_seconds: For one question, whatever the server does.
        retries: How often a question is asked again.

    Raises:
        ValueError: The address, the key, or one of the numbers cannot be meant.
    """

    def __init__(
        self, url: str, key: str | None = None, *, timeout_seconds: float = 60.0, retries: int = 4
    ) -> None:
        self._patience = Patience(timeout_seconds, retries)
        self._http = httpx.AsyncClient(base_url=_address(url), headers=_headers(key))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; nothing can be asked afterwards."""
        await self._http.aclose()

    async def predict(self, picture: bytes | Path, k: int = 1) -> Answer:
        """Ask which landmark a picture shows; see :meth:`Client.predict`."""
        return await self._ask(await asyncio.to_thread(_predict, picture, k))

    async def predict_batch(self, pictures: Sequence[bytes | Path], k: int = 1) -> Outcomes:
        """Ask which landmarks several pictures show; see :meth:`Client.predict_batch`."""
        return await self._ask(await asyncio.to_thread(_predict_batch, pictures, k))

    async def landmarks(self, offset: int = 0, limit: int = 100) -> Landmarks:
        """Ask which landmarks the gallery shows; see :meth:`Client.landmarks`."""
        return await self._ask(_landmarks(offset, limit))

    async def picture(self, picture: str) -> bytes:
        """Ask for a picture of the gallery; see :meth:`Client.picture`."""
        return await self._ask(_picture(picture))

    async def ready(self) -> Ready:
        """Ask what answers; see :meth:`Client.ready`."""
        return await self._ask(_ready())

    async def reload(self) -> Ready:
        """Let the service switch to what is published now; see :meth:`Client.reload`."""
        return await self._ask(_reload())

    async def _ask(self, question: _Question[_T]) -> _T:
        attempts = Attempts(self._patience)
        while True:
            seconds = attempts.seconds_left()
            found = await self._send(question.request(self._http, seconds), seconds)
            pause = attempts.pause_after(found)
            if pause is None:
                return question.conclude(found)
            await asyncio.sleep(pause)

    async def _send(self, request: httpx.Request, seconds: float) -> Reply | httpx.RequestError:
        """Ask once."""
        try:
            async with asyncio.timeout(seconds):
                response = await self._http.send(request)
        except httpx.RequestError as error:
            return error
        except TimeoutError:
            return httpx.ReadTimeout("the time is over", request=request)
        return Reply(response.status_code, response.headers, response.content)


@dataclass(frozen=True, slots=True)
class _Question(Generic[_T]):
    """One thing to ask: where, how its answer is read, and what is sent along.

    Attributes:
        method: Of HTTP.
        path: Below the service's address.
        read: Makes the answer out of a reply; ``ValueError`` if it cannot be made.
        sent: Arguments of httpx for parameters and body.
        identity: The request's id, the same in all attempts.
    """

    method: str
    path: str
    read: Callable[[Reply], _T]
    sent: Mapping[str, Any] = field(default_factory=dict)
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)

    def request(self, http: httpx.Client | httpx.AsyncClient, seconds: float) -> httpx.Request:
        """Word it for one attempt, in which no wait is longer than ``seconds``."""
        return http.build_request(
            self.method,
            self.path,
            headers={"X-Request-ID": self.identity},
            timeout=httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
            **self.sent,
        )

    def conclude(self, found: Reply | httpx.RequestError) -> _T:
        """Give the answer that was found.

        Raises:
            ServiceError: What was found is none.
        """
        if isinstance(found, httpx.RequestError):
            where, why = found.request.url.netloc.decode(), str(found) or type(found).__name__
            reason = f"no answer from {where}: {why}"
            raise ServiceUnreachableError(reason, request_id=self.identity) from found
        if found.status != HTTPStatus.OK:
            raise _error(found, self.identity)
        try:
            return self.read(found)
        except ValueError as error:
            reason = "what answered is no Cairn service, or one of another version"
            raise ServiceFailedError(
                reason, status=found.status, request_id=self.identity
            ) from error


def _error(reply: Reply, identity: str) -> ServiceError:
    """Turn the problem that a service tells of into an error."""
    if reply.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        kind: type[ServiceError] = ServiceBusyError
    elif HTTPStatus.BAD_REQUEST <= reply.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = ServiceRefusedError
    else:
        kind = ServiceFailedError
    try:
        problem = _model(Problem, reply)
    except ValidationError:
        reason = "what answered did not say what is wrong"
        error = kind(reason, status=reply.status, request_id=identity)
    else:
        facts = {"code": problem.code, "request_id": problem.request_id}
        error = kind(problem.detail, status=reply.status, **facts)
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
    sent = {"params": {"k": k}, "content": _bytes_of(picture)}
    return _Question("POST", "v1/predict", partial(_model, Answer), sent)


def _predict_batch(pictures: Sequence[bytes | Path], k: int) -> _Question[Outcomes]:
    files = [
        ("file", (_name_of(picture, number), _bytes_of(picture)))
        for number, picture in enumerate(pictures)
    ]
    sent = {"params": {"k": k}, "files": files}
    return _Question("POST", "v1/predict/batch", partial(_model, Outcomes), sent)


def _landmarks(offset: int, limit: int) -> _Question[Landmarks]:
    sent = {"params": {"offset": offset, "limit": limit}}
    return _Question("GET", "v1/landmarks", partial(_model, Landmarks), sent)


def _picture(picture: str) -> _Question[bytes]:
    return _Question("GET", f"v1/pictures/{quote(picture, safe='')}", _jpeg)


def _ready() -> _Question[Ready]:
    return _Question("GET", "readyz", partial(_model, Ready))


def _reload() -> _Question[Ready]:
    return _Question("POST", "admin/reload", partial(_model, Ready))


def _bytes_of(picture: bytes | Path) -> bytes:
    return picture.read_bytes() if isinstance(picture, Path) else picture


def _name_of(picture: bytes | Path, number: int) -> str:
    """Return a name for a form; a file's own may hold bytes that are no text."""
    if isinstance(picture, Path):
        return picture.name.encode(errors="replace").decode()
    return str(number)


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no address: {error}") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise ValueError(f"{url!r} is no address of a service, like http://127.0.0.1:8000")
    return address


def _headers(key: str | None) -> dict[str, str]:
    """Return what is sent with every question; a wrong key is not repeated in the error."""
    if key is None:
        return {}
    if not key or not key.isascii() or not key.isprintable() or key != key.strip():
        raise ValueError("a key has printable ASCII characters only, and is not empty")
    return {"X-API-Key": key}
