"""What is published and cannot be served is refused, and what serves stays."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service import reload
from service.errors import ReloadRefusedError
from service.metrics import Metrics
from service.reload import Reloader
from service.settings import Settings


def recognizer(device: str) -> Any:
    """Give what is asked of a recognizer before it is warmed."""
    return SimpleNamespace(embedder=SimpleNamespace(device=device))


def test_an_embedder_for_another_device_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cores are divided for the device of the first one, until a new start."""
    settings = Settings(store=tmp_path / "store", embedder=tmp_path / "embedder")
    monkeypatch.setattr(reload, "open_recognizer", lambda *_: (recognizer("cpu"), []))

    async def scene() -> None:
        batcher: Any = SimpleNamespace(recognizer=recognizer("cuda"))  # can neither warm nor switch
        reloader = Reloader(settings, batcher, Metrics(), ("", ""))
        with pytest.raises(ReloadRefusedError):
            await reloader.reload()
        assert reloader.refusal is not None
        assert reloader.refusal.reason == "device"

    asyncio.run(scene())
