"""Bodies in memory: what JSON takes there is counted before it is decoded."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Gauge
from starlette.requests import Request

from service.http import uploads
from service.http.errors import BodyTooLargeError, FieldError, TooSlowError
from service.http.uploads import UploadBudget, body_reader

PICTURE = bytes(range(250)) * 400
BODY = json.dumps({"picture": base64.b64encode(PICTURE).decode()}).encode()
JSON = "application/json"


def budget(held_bytes: int) -> UploadBudget:
    """Make a budget; of its memory one client may take three quarters."""
    gauge = Gauge("held", "", registry=CollectorRegistry())
    return UploadBudget(len(PICTURE), held_bytes, 10, gauge)


def read(shared: UploadBudget, pieces: Iterable[bytes], kind: str, *, nothing: bool = False) -> int:
    """Read a body; return what the budget counted for it while its pictures were in memory."""
    rest = [*pieces, b""]

    async def receive() -> dict[str, object]:
        piece = rest.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(rest)}

    async def run() -> int:
        headers = [(b"content-type", kind.encode())]
        app = SimpleNamespace(state=SimpleNamespace(uploads=shared))
        scope = {"type": "http", "headers": headers, "app": app}
        with body_reader(Request(scope, receive), "client") as reader:
            if nothing:
                await reader.nothing()
                return reader.held
            [upload] = await reader.pictures(1)
            assert upload.data == PICTURE
            return reader.held

    try:
        return asyncio.run(run())
    finally:
        assert shared.gauge._value.get() == 0


def test_json_counts_by_its_bytes_and_then_by_those_of_its_picture() -> None:
    """Its text is decoded as it arrives, so that it is never held beside the picture."""
    enough = 4 * len(BODY) // 3 + 10
    assert read(budget(enough), [BODY[:99], BODY[99:]], JSON) == len(PICTURE)
    with pytest.raises(TooSlowError):
        read(budget(enough - 100), [BODY], JSON)
    assert read(budget(2 * len(PICTURE)), [PICTURE], "image/jpeg") == len(PICTURE)


def test_json_is_refused_by_the_bytes_of_its_picture() -> None:
    """Not by those of its text, which is longer; and never more than half as much is read."""
    for size, one in ((1, b"A"), (10_000_000, b"A")):
        text = base64.b64encode(PICTURE + one * size).decode()
        with pytest.raises(BodyTooLargeError):
            read(budget(1 << 30), [json.dumps({"picture": text}).encode()], JSON)


def test_a_request_without_a_body_has_none() -> None:
    """The id of a picture and a picture exclude each other."""
    assert read(budget(100), [], "image/jpeg", nothing=True) == 0
    with pytest.raises(FieldError, match="not both"):
        read(budget(100), [b"x"], "image/jpeg", nothing=True)


def test_the_envelope_is_what_is_said() -> None:
    """What JSON may hold besides the picture is what a form may."""
    space = b" " * uploads._ENVELOPE_BYTES
    with pytest.raises(BodyTooLargeError):
        read(budget(1 << 30), [BODY + b" " * len(PICTURE) + space], JSON)
    assert read(budget(1 << 30), [BODY + space[:1000]], JSON) == len(PICTURE)
