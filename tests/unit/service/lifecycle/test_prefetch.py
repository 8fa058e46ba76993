"""A gallery is read into memory ahead of queries, without being in the way of any."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from index.gallery.gallery import VECTORS
from service.lifecycle import prefetch


def batcher_of(blocks: Iterator[int], *, size: int = 500, idle: bool = True) -> Any:
    """Give what is asked of a batcher and its gallery by what reads ahead."""
    told: list[bool] = []
    gallery = SimpleNamespace(
        build_id="one",
        manifest=SimpleNamespace(files={VECTORS: SimpleNamespace(bytes=size)}),
        read_ahead=lambda: blocks,
        told=told,
        expect_disk=lambda *, expected: told.append(expected),
    )
    embedder = SimpleNamespace(device="cpu")
    recognizer = SimpleNamespace(embedder=embedder, gallery=gallery)
    return SimpleNamespace(idle=idle, recognizer=recognizer)


def pauses_of(batcher: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Read ahead where there are 1,000 bytes of memory, and tell the pauses that were made."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    with monkeypatch.context() as patched:
        patched.setattr(prefetch, "available_bytes", lambda: 1000)
        patched.setattr(asyncio, "sleep", sleep)
        asyncio.run(prefetch.prefetch(batcher))
    return pauses


def test_a_gallery_is_read_ahead_in_pauses_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """At full speed while nobody asks; else as much slower as the disk is slow."""

    def blocks(seconds: float) -> Iterator[int]:
        for block in (3, 2, 1):
            time.sleep(seconds)
            yield block

    assert pauses_of(batcher_of(blocks(0)), monkeypatch) == [0, 0, 0]
    slow = pauses_of(batcher_of(blocks(0.05), idle=False), monkeypatch)
    quick = pauses_of(batcher_of(blocks(0), idle=False), monkeypatch)
    assert len(slow) == len(quick) == 3
    assert min(slow) >= 0.1
    assert 0 < min(quick) < min(slow)


@pytest.mark.parametrize(("size", "told"), [(500, [True, False]), (501, [True])])
def test_the_disk_is_expected_until_a_gallery_is_in_memory(
    size: int, told: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that does not fit, always."""
    batcher = batcher_of(iter([3, 2, 1]), size=size)
    pauses_of(batcher, monkeypatch)
    assert batcher.recognizer.gallery.told == told


def test_a_gallery_that_does_not_fit_is_not_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """In half of the memory, the other half being for pictures; nor for a search on a GPU."""
    blocks = iter([3, 2, 1])
    assert pauses_of(batcher_of(blocks, size=501), monkeypatch) == []
    batcher = batcher_of(blocks)
    batcher.recognizer.embedder.device = "cuda"
    assert pauses_of(batcher, monkeypatch) == []
    assert list(blocks) == [3, 2, 1]


def test_a_gallery_that_no_longer_answers_is_not_read_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its file would displace that of the one that does."""

    def blocks() -> Iterator[int]:
        yield 3
        batcher.recognizer = batcher_of(iter([])).recognizer
        batcher.recognizer.gallery.build_id = "two"
        yield 2
        raise AssertionError("it was read on")

    batcher = batcher_of(blocks())
    assert len(pauses_of(batcher, monkeypatch)) == 2


def test_a_gallery_that_is_gone_is_not_read_ahead(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another one may have been published, and this one cleared away."""

    def blocks() -> Iterator[int]:
        yield 3
        raise FileNotFoundError("gone")

    assert pauses_of(batcher_of(blocks()), monkeypatch) == [0]
    assert "gone" in caplog.text
