"""How much memory there is, told by the files that the kernel shows, and what fits in it."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from index.gallery.gallery import VECTORS
from service import app
from service.resources.memory import BYTES_PER_PIXEL, REST_BYTES, available_bytes, pictures_that_fit
from service.settings import Settings
from tests.conftest import ROOT
from tests.unit.service.resources.test_cores import kernel

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
UNLIMITED_V1 = 9223372036854771712


@pytest.mark.parametrize(
    ("files", "size"),
    [
        ({}, MACHINE),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, MACHINE),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1048576\n"}, 1 << 20),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/memory.max": "1048576\n",
            },
            1 << 20,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/1\n3:cpu:/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1048576\n",
                "sys/fs/cgroup/cpu/memory.limit_in_bytes": "1\n",
            },
            1 << 20,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{UNLIMITED_V1}\n",
            },
            MACHINE,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "9" * 18}, MACHINE),
    ],
    ids=["nothing", "unlimited", "v2", "v2 above", "v1", "v1 unlimited", "more than there is"],
)
def test_a_limit_counts(tmp_path: Path, files: dict[str, str], size: int) -> None:
    """Of the control group of this process and of those above it, in both versions."""
    assert available_bytes(kernel(tmp_path, files)) == size


@pytest.mark.parametrize("number", [1, 2, 7])
def test_all_that_fit_are_decoded_at_once_and_not_one_more(number: int) -> None:
    """Beside the pictures that are held, and the rest of the process."""
    needed = number * BYTES_PER_PIXEL * 1000 + REST_BYTES + 5
    assert pictures_that_fit(needed, max_pixels=1000, held_bytes=5) == number
    assert pictures_that_fit(needed - 1, max_pixels=1000, held_bytes=5) == max(1, number - 1)


def test_one_is_decoded_wherever_the_service_starts() -> None:
    """However little memory there is."""
    assert pictures_that_fit(1, max_pixels=64_000_000, held_bytes=512 << 20) == 1


def settings(max_pixels: int) -> Settings:
    """Word settings of a service that may use three cores."""
    return Settings(store=Path("absent"), embedder=Path("absent"), threads=3, max_pixels=max_pixels)


def test_memory_bounds_the_decoders_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """With both numbers and what to do; where the memory suffices, the cores decide in silence."""
    with caplog.at_level(logging.WARNING):
        assert app.decoders(settings(1_000)) == 3
        assert caplog.messages == []
        assert app.decoders(settings(MACHINE)) == 1
    [words] = caplog.messages
    assert "decoded at once: 1 rather than 3" in words
    assert "--max-pixels" in words


LARGEST = """
import io, sys
from PIL import Image
from embedder.preprocess import PictureLimits, decode

def resident(kind):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(kind))

def file(side):
    upright, buffer = Image.Exif(), io.BytesIO()
    upright[274] = 6
    Image.new(mode, (side, side)).save(buffer, kind, exif=upright, **options)
    return buffer.getvalue()

kind, mode, options = sys.argv[1], sys.argv[2], eval(sys.argv[3])
small, large = file(50), file(2500)
decode(small, limits=PictureLimits())
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before = resident("VmRSS")
decode(large, limits=PictureLimits())
print((resident("VmHWM") - before) / 2500**2)
"""


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("WEBP", "RGBA", {"lossless": True}),
        ("PNG", "LA", {}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    ],
)
def test_no_picture_takes_more_than_is_reckoned_with(kind: str, mode: str, options: object) -> None:
    """The most expensive kinds of each format, measured."""
    ended = subprocess.run(
        [sys.executable, "-c", LARGEST, kind, mode, repr(options)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 5 < float(ended.stdout) <= BYTES_PER_PIXEL


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


def read_ahead(batcher: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Read ahead where there are 1,000 bytes of memory, and tell the pauses that were made."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    with monkeypatch.context() as patched:
        patched.setattr(app, "available_bytes", lambda: 1000)
        patched.setattr(asyncio, "sleep", sleep)
        asyncio.run(app._read_ahead(batcher))
    return pauses


def test_a_gallery_is_read_ahead_in_pauses_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """At full speed while nobody asks; else as much slower as the disk is slow."""

    def blocks(seconds: float) -> Iterator[int]:
        for block in (3, 2, 1):
            time.sleep(seconds)
            yield block

    assert read_ahead(batcher_of(blocks(0)), monkeypatch) == [0, 0, 0]
    slow = read_ahead(batcher_of(blocks(0.05), idle=False), monkeypatch)
    quick = read_ahead(batcher_of(blocks(0), idle=False), monkeypatch)
    assert len(slow) == len(quick) == 3
    assert min(slow) >= 0.1
    assert 0 < min(quick) < min(slow)


@pytest.mark.parametrize(("size", "told"), [(500, [True, False]), (501, [True])])
def test_the_disk_is_expected_until_a_gallery_is_in_memory(
    size: int, told: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that does not fit, always."""
    batcher = batcher_of(iter([3, 2, 1]), size=size)
    read_ahead(batcher, monkeypatch)
    assert batcher.recognizer.gallery.told == told


def test_a_gallery_that_does_not_fit_is_not_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """In half of the memory, the other half being for pictures; nor for a search on a GPU."""
    blocks = iter([3, 2, 1])
    assert read_ahead(batcher_of(blocks, size=501), monkeypatch) == []
    batcher = batcher_of(blocks)
    batcher.recognizer.embedder.device = "cuda"
    assert read_ahead(batcher, monkeypatch) == []
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
    assert len(read_ahead(batcher, monkeypatch)) == 2


def test_a_gallery_that_is_gone_is_not_read_ahead(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another one may have been published, and this one cleared away."""

    def blocks() -> Iterator[int]:
        yield 3
        raise FileNotFoundError("gone")

    assert read_ahead(batcher_of(blocks()), monkeypatch) == [0]
    assert "gone" in caplog.text
