"""What is published and cannot be served is refused, and what serves stays."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedder.errors import ArtifactDamagedError
from index.gallery.store import Store
from service.contract.schemas import Refusal
from service.http import openapi_examples as examples
from service.inference.processes import Opening
from service.lifecycle import reload
from service.lifecycle.fingerprint import fingerprint
from service.lifecycle.reload import Reloader, ReloadRefusedError
from service.settings import Settings
from service.telemetry.metrics import Metrics


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
        reloader = Reloader(settings, SimpleNamespace(pool=None), Metrics())  # type: ignore[arg-type] # it is a fake
        monkeypatch.setattr(reloader, "reload", asked_for(asked))
        following = asyncio.ensure_future(reloader.follow())
        await asyncio.wait_for(asked.wait(), 20)
        asked.clear()
        await asyncio.wait_for(asked.wait(), 20)
        following.cancel()

    asyncio.run(scene())
    assert looks >= 3


def test_what_was_damaged_is_not_served_again_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once something has served, every byte is read before anything does; nothing is, meanwhile."""
    damage = ArtifactDamagedError(tmp_path, "a block differs")
    asked: list[tuple[str | None, bool]] = []

    class Pair:
        ready = examples.READY
        broken = False

        def __init__(self, build: str) -> None:
            self.opened = SimpleNamespace(build=build)

        @classmethod
        async def open(cls, opening: Opening, *, deep: bool) -> Pair:
            asked.append((opening.build, deep))
            if deep:
                raise OSError("no process") if opening.build == "a" else damage
            return cls(str(opening.build))

    async def check(*_: object) -> None:
        raise damage

    monkeypatch.setattr(reload, "Pool", Pair)
    monkeypatch.setattr(reload, "check_in_background", check)
    monkeypatch.setattr(Store, "current", lambda _: "b")
    monkeypatch.setattr(Store, "build_ids", lambda _: ["a", "b", "c"])
    settings = Settings(store=tmp_path, embedder=tmp_path)

    async def scene() -> None:
        batcher: Any = SimpleNamespace(pool=None)

        def switch(pool: object) -> None:
            batcher.pool = pool

        batcher.switch = switch
        reloader = Reloader(settings, batcher, Metrics())
        await reloader.reload()
        assert batcher.pool is not None
        while batcher.pool is not None:
            await asyncio.sleep(0)
        assert reloader.refusal == Refusal(gallery="b", reason="artifact-damaged")
        with pytest.raises(ReloadRefusedError):
            await reloader.reload()
        assert batcher.pool is None

    asyncio.run(asyncio.wait_for(scene(), 20))
    assert asked == [("b", False), ("a", True), ("b", True)]


def asked_for(event: asyncio.Event) -> Callable[[], Coroutine[Any, Any, None]]:
    """Make a reload that only notes that it was asked for."""

    async def note() -> None:
        event.set()

    return note
