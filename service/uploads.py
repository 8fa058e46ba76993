"""The bytes of one picture out of one request, never more of them than are allowed.

A body is refused by its declared length before any of it is read, and by its actual length as
soon as that is exceeded. Nothing is written to disk. What the bytes are is not decided here.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.errors import BodyTooLargeError, FieldError, MultipartError

FIELD = "file"
"""Name of the form field that holds the picture."""

_ENVELOPE_BYTES = 64 << 10
"""What a form may hold besides the picture: boundaries, headers, small fields."""


async def read_picture(request: Request, *, max_bytes: int) -> bytes:
    """Read the picture that a request carries.

    Args:
        request: A multipart form with the picture in ``file``; any other content type is taken
            for the picture itself, since clients name it in many ways (``image/*``,
            ``application/octet-stream``, ``curl --data-binary``'s form type, none).
        max_bytes: Largest picture accepted.

    Returns:
        The file as sent; empty if nothing was sent.

    Raises:
        BodyTooLargeError: Declared or actual length is above ``max_bytes``.
        MultipartError: The form is broken.
        FieldError: The form holds no picture, or more than one.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() == "multipart/form-data":
        return await _read_form(request, max_bytes)
    return b"".join([chunk async for chunk in _bounded(request, max_bytes, max_bytes)])


async def _bounded(request: Request, limit: int, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the body up to ``limit`` bytes and refuse it beyond."""
    too_large = BodyTooLargeError(f"the picture is too large: at most {max_bytes} bytes are taken")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise too_large
        yield chunk


class _FormInMemory(MultiPartParser):
    """Starlette's parser, but uploads stay in memory and a missing end is noticed."""

    spool_max_size = sys.maxsize
    complete = False

    def on_end(self) -> None:
        self.complete = True


async def _read_form(request: Request, max_bytes: int) -> bytes:
    stream = _bounded(request, max_bytes + _ENVELOPE_BYTES, max_bytes)
    parser = _FormInMemory(
        request.headers, stream, max_files=8, max_fields=8, max_part_size=_ENVELOPE_BYTES
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise MultipartError("the multipart form cannot be read") from error
    try:
        if not parser.complete:
            raise MultipartError("the multipart form stops before its last boundary")
        found = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        pictures = [value for value in form.getlist(FIELD) if isinstance(value, UploadFile)]
        if len(found) != 1 or len(pictures) != 1:
            raise FieldError(f'send exactly one file, in the form field "{FIELD}"')
        data = await pictures[0].read()
    finally:
        await form.close()
    if len(data) > max_bytes:
        raise BodyTooLargeError(f"the picture is too large: at most {max_bytes} bytes are taken")
    return data
