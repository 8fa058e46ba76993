"""Reads the pictures of a request into memory, within limits of bytes and time.

A body is refused by its declared length before any of it is read, by its actual length as soon as
that is exceeded, and when it takes too long or comes too slowly. What all requests together hold
in memory is bounded too, and where it is used up, the slowest body of the client that holds most
gives way. Nothing is written to disk. Nothing is decoded here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from prometheus_client import Gauge
from starlette.requests import Request

from service.http.errors import (
    BodyTooLargeError,
    FieldError,
    MultipartError,
    RequestTimeoutError,
    TooSlowError,
)
from service.http.forms import Form, Part, Upload
from service.http.json_body import JsonBody, is_json

FIELD = "file"
"""Name of the form field that holds a picture."""

PACE_BYTES, PACE_SECONDS = 10 << 10, 10.0
"""So much of a body has to come in so much time."""

_SHARE = 0.75  # of the memory that one client may take; the largest batch is less

_ENVELOPE_BYTES = 64 << 10
"""What a form may hold besides the pictures: boundaries, headers, small fields."""


@dataclass(slots=True)
class UploadBudget:
    """The memory that the bodies of all requests under way share.

    Attributes:
        max_bytes: Largest picture accepted.
        held_bytes: Most bytes that all bodies together may take.
        seconds: How long a client may take to send a body.
        gauge: Shows the bytes that are held.
    """

    max_bytes: int
    held_bytes: int
    seconds: float
    gauge: Gauge
    _readers: set[BodyReader] = field(default_factory=set)
    _held: Counter[str] = field(default_factory=Counter)  # by client

    def add(self, reader: BodyReader) -> None:
        """Count the bytes of a request from now on."""
        self._readers.add(reader)

    def remove(self, reader: BodyReader) -> None:
        """Count them no longer."""
        self._readers.discard(reader)
        self._let_go(reader)

    def take(self, reader: BodyReader, count: int) -> None:
        """Hold ``count`` more bytes of a request; fewer, if it is negative.

        Where that is more than all bodies together, or those of one client, may take, other
        bodies give way, or this one.

        Raises:
            TooSlowError: This one gives way: no other of its client is slower, and no other client
                holds more.
        """
        reader.held += count
        self._held[reader.client] += count
        while count > 0 and (client := self._exceeding(reader.client)):
            slowest = min(
                (reader for reader in self._arriving() if reader.client == client),
                key=lambda reader: reader.progress_at,
            )
            self._let_go(slowest)
            if slowest is reader:
                raise TooSlowError("the service holds as many pictures as its memory allows", 1)
            slowest.give_way()
        self.gauge.set(self._held.total())

    def _exceeding(self, client: str) -> str | None:
        """Return which client has a body that must give way now that ``client`` has sent more."""
        if self._held[client] > _SHARE * self.held_bytes:
            return client
        if self._held.total() <= self.held_bytes:
            return None
        return max((reader.client for reader in self._arriving()), key=self._held.__getitem__)

    def _arriving(self) -> Iterator[BodyReader]:
        """Yield what can give way; of a body that has arrived the answer is under way."""
        return (reader for reader in self._readers if reader.is_arriving and reader.held)

    def _let_go(self, reader: BodyReader) -> None:
        self._held[reader.client] -= reader.held
        reader.held = 0
        if not self._held[reader.client]:
            del self._held[reader.client]
        self.gauge.set(self._held.total())


@contextmanager
def body_reader(request: Request, client: str) -> Iterator[BodyReader]:
    """Give a reader of a request's body; its bytes count in the budget until the block ends.

    Args:
        request: Whose body it is.
        client: Who sends it.
    """
    budget: UploadBudget = request.app.state.uploads
    reader = BodyReader(request, budget, client)
    budget.add(reader)
    try:
        yield reader
    finally:
        budget.remove(reader)


@dataclass(slots=True, eq=False)
class BodyReader:
    """Reads the body of one request, once.

    Attributes:
        request: Whose body it is.
        budget: What is kept to.
        client: Who sends it.
        held: Bytes that count in the budget.
        is_arriving: Whether the body is being read.
        progress_at: When it last came on as fast as it should, in seconds of the event loop.
    """

    request: Request
    budget: UploadBudget
    client: str
    held: int = 0
    is_arriving: bool = False
    progress_at: float = 0.0
    _ends: float = 0.0
    _timeout: asyncio.Timeout | None = None
    _gives_way: bool = False

    async def pictures(self, most: int, *, raw: bool = True) -> list[Upload]:
        """Read the 1 to ``most`` pictures that the request carries.

        A multipart form holds each in a field ``file``; JSON is read by
        :mod:`service.http.json_body`. A body of any other content type is the one picture itself:
        clients send many (``image/*``, ``application/octet-stream``, ``curl --data-binary``'s
        form type, none).

        Args:
            most: How many are accepted.
            raw: Whether the body may be a picture itself.

        Returns:
            The files as sent; of an empty body one that is empty.

        Raises:
            BodyTooLargeError: Declared or actual length is above the limit, for any of them.
            MultipartError: The form is broken, or the body is neither form nor JSON.
            JsonError: The JSON is broken.
            FieldError: The body holds no picture, or more than ``most``.
            RequestTimeoutError: The client took too long.
            TooSlowError: Too much is held in memory already.
        """
        content_type = self.request.headers.get("content-type", "")
        if is_json(content_type):
            return await self._read_json(most)
        if _is_form(content_type):
            return await self._read_form(most)
        if not raw:
            raise MultipartError("send the pictures as a multipart form, or as JSON")
        return [Upload("", await self.raw(self.budget.max_bytes))]

    async def nothing(self) -> None:
        """Read the body of a request that must not have any.

        Raises:
            FieldError: It has one.
            RequestTimeoutError: The client took too long.
        """
        async with self._in_time():
            async for chunk in self.request.stream():
                if chunk:
                    raise FieldError("send a picture, or the id of one, and not both")

    async def raw(self, most_bytes: int) -> bytes:
        """Read the body as it is.

        Raises:
            BodyTooLargeError: It is longer than ``most_bytes``.
            RequestTimeoutError: The client took too long.
            TooSlowError: Too much is held in memory already.
        """
        pieces: list[bytes] = []
        try:
            async with self._in_time():
                async for piece in self._bounded(most_bytes):
                    pieces.append(piece)  # noqa: PERF401 - an error would hold a comprehension's
            return b"".join(pieces)
        finally:
            pieces.clear()  # an error holds this frame while it is answered

    def give_way(self) -> None:
        """Stop reading: the memory is needed for another body."""
        self._gives_way = True
        if self._timeout is not None:
            with suppress(RuntimeError):  # its time is up already
                self._timeout.reschedule(0)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Limit the time of a block that reads the body: altogether, and between two paces."""
        loop = asyncio.get_running_loop()
        self._ends = loop.time() + self.budget.seconds
        self.is_arriving, self.progress_at = True, loop.time()
        try:
            async with asyncio.timeout_at(self._next_pace()) as self._timeout:
                yield
        except TimeoutError:
            if self._gives_way:
                reason = "other pictures need the memory of this one, which comes too slowly"
                raise TooSlowError(reason, 1) from None
            raise RequestTimeoutError(
                f"the body did not arrive within {self.budget.seconds:g} seconds, or came more "
                f"slowly than {PACE_BYTES} bytes in {PACE_SECONDS:g} seconds"
            ) from None
        finally:
            self.is_arriving = False

    def _next_pace(self) -> float:
        """Return until when the body must have come on."""
        return min(self._ends, self.progress_at + PACE_SECONDS)

    def _note_progress(self) -> None:
        self.progress_at = asyncio.get_running_loop().time()
        if self._timeout is not None and not self._gives_way:
            self._timeout.reschedule(self._next_pace())

    async def _bounded(self, limit: int) -> AsyncGenerator[bytes, None]:
        """Yield the body in pieces; refuse it beyond ``limit`` bytes."""
        declared = self.request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            raise BodyTooLargeError(self.budget.max_bytes)
        received = paced = 0
        async for chunk in self.request.stream():
            received += len(chunk)
            if received > limit:
                raise BodyTooLargeError(self.budget.max_bytes)
            self.budget.take(self, len(chunk))
            if received >= paced + PACE_BYTES:
                paced = received
                self._note_progress()
            yield chunk

    async def _read_json(self, most: int) -> list[Upload]:
        """Read pictures in base64, which is a third longer, perhaps in lines."""
        body = JsonBody(most, self.budget.max_bytes)
        try:
            async with self._in_time():
                limit = most * self.budget.max_bytes * 3 // 2 + _ENVELOPE_BYTES
                async for chunk in self._bounded(limit):
                    body.feed(chunk)
            files = body.pictures()
            self.budget.take(self, sum(map(len, files)) - self.held)
            return [Upload("", data) for data in files]
        finally:
            body.clear()  # an error holds this frame while it is answered

    async def _read_form(self, most: int) -> list[Upload]:
        form = Form(self.request.headers["content-type"], most, self.budget.max_bytes)
        try:
            async with self._in_time():
                async for chunk in self._bounded(most * self.budget.max_bytes + _ENVELOPE_BYTES):
                    form.feed(chunk)
            if not form.is_complete:
                raise MultipartError("the multipart form stops before its last boundary")
            return [_finished(part) for part in _files(form, most)]
        finally:
            form.clear()  # an error holds this frame while it is answered


def _is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def _files(form: Form, most: int) -> list[Part]:
    """Return the files of a form: 1 to ``most``, all of them in the field ``file``."""
    found = form.files()
    if not 1 <= len(found) <= most or any(part.name != FIELD for part in found):
        number = "exactly one file" if most == 1 else f"one to {most} files"
        raise FieldError(f'send {number}, in the form field "{FIELD}"')
    return found


def _finished(part: Part) -> Upload:
    """Return the file that a part holds, which holds it no longer."""
    upload = Upload(part.filename or "", bytes(part.data))
    part.data.clear()
    return upload
