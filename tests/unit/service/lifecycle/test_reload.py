"""What is published and cannot be served is refused, and what serves stays."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from index.gallery.store import Store
from service.lifecycle.fingerprint import fingerprint
from service.lifecycle.reload import Reloader
from service.resources.cores import Cores
from service.settings import Settings
from service.telemetry.metrics import Metrics

CORES = Cores(1, 1, 1)


def test_what_cannot_be_read_is_a_state_like_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload refuses it, and what is there afterwards is new."""

    def broken(*_: object) -> str:
        raise OSError(errno.EIO, "input/output error")

    settings = Settings(store=tmp_path, embedder=tmp_path)
    monkeypatch.setattr(Store, "current", broken)
    assert fingerprint(settings) == ("", "absent")
    monkeypatch.setattr(Path, "glob", broken)
    assert fingerprint(settings) == ("", "unreadable")


def test_an_error_of_the_disk_does_not_end_the_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be read now is looked at again, and then switched to."""
    settings = Settings(store=tmp_path, embedder=tmp_path, poll_seconds=0.01)
    looks = 0

    def current(_: Store) -> str:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise OSError(errno.EIO, "input/output error")
        if looks == 2:
            raise RuntimeError("no thread")
        return "new"

    monkeypatch.setattr(Store, "current", current)

    async def scene() -> None:
        asked = asyncio.Event()
        reloader = Reloader(settings, CORES, SimpleNamespace(pool=None), Metrics())  # type: ignore[arg-type] # it is a fake
        monkeypatch.setattr(reloader, "reload", asked_for(asked))
        following = asyncio.ensure_future(reloader.follow())
        await asyncio.wait_for(asked.wait(), 20)
        asked.clear()
        await asyncio.wait_for(asked.wait(), 20)
        following.cancel()

    asyncio.run(scene())
    assert looks >= 3


def asked_for(event: asyncio.Event) -> Callable[[], Coroutine[Any, Any, None]]:
    """Make a reload that only notes that it was asked for."""

    async def note() -> None:
        event.set()

    return note
