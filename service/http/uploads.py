"""Reads the pictures of a request into memory, within limits of bytes and time.

A body is refused by its declared length before any of it is read, by its actual length as soon as
that is exceeded, and when it takes too long. What all requests together hold in memory is bounded
too. Nothing is written to disk. Nothing is decoded here.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from prometheus_client import Gauge
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.http.errors import (
    BodyTooLargeError,
    FieldError,
    MultipartError,
    RequestTimeoutError,
)
from service.inference.errors import OverloadedError

FIELD = "file"
"""Name of the form field that holds a picture."""

_ENVELOPE_BYTES = 64 << 10
"""What a form may hold besides the pictures: boundaries, headers, small fields."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a form: the name that its sender gave it, and its bytes."""

    name: str
    data: bytes


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
    _held: int = 0

    def take(self, count: int) -> None:
        """Hold ``count`` more bytes; fewer, if it is negative.

        Raises:
            OverloadedError: That is more than all bodies together may take.
        """
        self._held += count
        self.gauge.set(self._held)
        if count > 0 and self._held > self.held_bytes:
            raise OverloadedError("the service holds as many pictures as its memory allows", 1)


@contextmanager
def body_reader(request: Request) -> Iterator[BodyReader]:
    """Give a reader of a request's body; its bytes count in the budget until the block ends."""
    reader = BodyReader(request, request.app.state.uploads)
    try:
        yield reader
    finally:
        reader.budget.take(-reader.received)


@dataclass(slots=True)
class BodyReader:
    """Reads the body of one request, once.

    Attributes:
        request: Whose body it is.
        budget: What is kept to.
        received: Bytes read so far.
    """

    request: Request
    budget: UploadBudget
    received: int = 0

    async def picture(self) -> bytes:
        """Read the one picture that the request carries.

        A multipart form holds the picture in the field ``file``. A body of any other content type
        is the picture itself: clients send many (``image/*``, ``application/octet-stream``,
        ``curl --data-binary``'s form type, none).

        Returns:
            The file as sent; empty if nothing was sent.

        Raises:
            BodyTooLargeError: Declared or actual length is above the limit.
            MultipartError: The form is broken.
            FieldError: The form holds no picture, or more than one.
            RequestTimeoutError: The client took too long.
            OverloadedError: Too much is held in memory already.
        """
        async with self._in_time():
            if self._is_form():
                [upload] = await self._read_form(1)
                return upload.data
            return b"".join([chunk async for chunk in self._bounded(self.budget.max_bytes)])

    async def pictures(self, most: int) -> list[Upload]:
        """Read the pictures of a form, 1 to ``most`` of them, each in a field ``file``.

        Raises:
            BodyTooLargeError: As for :meth:`picture`, for any of them.
            MultipartError: The body is no form, or a broken one.
            FieldError: The form holds no picture, or more than ``most``.
            RequestTimeoutError: The client took too long.
            OverloadedError: Too much is held in memory already.
        """
        if not self._is_form():
            raise MultipartError("send the pictures as a multipart form")
        async with self._in_time():
            return await self._read_form(most)

    def _is_form(self) -> bool:
        content_type = self.request.headers.get("content-type", "")
        return content_type.partition(";")[0].strip().lower() == "multipart/form-data"

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.budget.seconds):
                yield
        except TimeoutError:
            reason = f"the body did not arrive within {self.budget.seconds:g} seconds"
            raise RequestTimeoutError(reason) from None

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"the picture is too large: at most {self.budget.max_bytes} bytes are accepted"
        )

    async def _bounded(self, limit: int) -> AsyncGenerator[bytes, None]:
        """Yield the body in pieces; refuse it beyond ``limit`` bytes."""
        declared = self.request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            raise self._too_large()
        async for chunk in self.request.stream():
            self.received += len(chunk)
            self.budget.take(len(chunk))
            if self.received > limit:
                raise self._too_large()
            yield chunk

    async def _read_form(self, most: int) -> list[Upload]:
        stream = self._bounded(most * self.budget.max_bytes + _ENVELOPE_BYTES)
        parser = _FormInMemory(
            self.request.headers,
            stream,
            max_files=most + 8,
            max_fields=8,
            max_part_size=_ENVELOPE_BYTES,
        )
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise MultipartError("the multipart form cannot be read") from error
        try:
            if not parser.complete:
                raise MultipartError("the multipart form stops before its last boundary")
            uploads = [
                Upload(value.filename or "", await value.read()) for value in _files(form, most)
            ]
        finally:
            await form.close()
        if any(len(upload.data) > self.budget.max_bytes for upload in uploads):
            raise self._too_large()
        return uploads


class _FormInMemory(MultiPartParser):
    """Starlette's parser, but files stay in memory and a missing last boundary is noticed."""

    spool_max_size = sys.maxsize
    complete = False

    def on_end(self) -> None:
        self.complete = True


def _files(form: FormData, most: int) -> list[UploadFile]:
    """Return the files of a form: 1 to ``most``, all of them in the field ``file``."""
    found = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    files = [value for value in form.getlist(FIELD) if isinstance(value, UploadFile)]
    if len(found) != len(files) or not 1 <= len(files) <= most:
        number = "exactly one file" if most == 1 else f"one to {most} files"
        raise FieldError(f'send {number}, in the form field "{FIELD}"')
    return files
