"""What serves is checked to the last byte, without being in the way of any request."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedder.artifacts import files
from embedder.artifacts.files import record
from embedder.errors import ArtifactDamagedError
from service.lifecycle import background_check
from service.lifecycle.background_check import check_in_background


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files of a few bytes be large, in blocks of ten."""
    for module in (files, background_check):
        monkeypatch.setattr(module, "LARGE_BYTES", 30)
    monkeypatch.setattr(files, "BLOCK_BYTES", 10)
    monkeypatch.setattr(background_check, "available_bytes", lambda: 1000)


def pool_of(directory: Path, **contents: bytes) -> Any:
    """Write files, and give what is asked of a pool that has them open."""
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    records = {name: record(directory / name) for name in contents}
    opened = SimpleNamespace(build="one", directory=directory, files=records)
    pool = SimpleNamespace(opened=opened, told=[])
    pool.expect_memory = lambda: pool.told.append("in memory")
    return pool


def pauses_of(pool: Any, monkeypatch: pytest.MonkeyPatch, *, idle: bool = True) -> list[float]:
    """Check the files of a pool that serves, and tell the pauses that were made."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    batcher: Any = SimpleNamespace(is_idle=idle, pool=pool)
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "sleep", sleep)
        asyncio.run(check_in_background(pool, batcher))
    return pauses


@pytest.mark.usefixtures("large")
def test_large_files_are_checked_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small ones were, when they were opened; then a search need not expect the disk."""
    pool = pool_of(tmp_path, large=b"x" * 45, small=b"y" * 5)
    (tmp_path / "small").write_bytes(b"other")
    assert pauses_of(pool, monkeypatch) == [0] * 5
    assert pool.told == ["in memory"]


@pytest.mark.usefixtures("large")
def test_what_does_not_fit_is_not_expected_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first half is on the disk again when its last has been read."""
    pool = pool_of(tmp_path, large=b"x" * 501)
    pauses_of(pool, monkeypatch)
    assert pool.told == []


@pytest.mark.usefixtures("large")
def test_while_pictures_are_answered_it_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longer the slower the disk is."""

    def blocks(seconds: float) -> Iterator[int]:
        for block in (3, 2, 1):
            time.sleep(seconds)
            yield block

    pool = pool_of(tmp_path, large=b"x" * 45)
    pauses = {}
    for name, seconds in {"slow": 0.05, "quick": 0.0}.items():
        monkeypatch.setattr(background_check, "check_blocks", lambda *_, s=seconds: blocks(s))
        pauses[name] = pauses_of(pool, monkeypatch, idle=False)
    assert len(pauses["slow"]) == len(pauses["quick"]) == 3
    assert min(pauses["slow"]) >= 0.1
    assert 0 < min(pauses["quick"]) < min(pauses["slow"])


@pytest.mark.usefixtures("large")
def test_a_damaged_block_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flipped bit; the file is named and nothing is said to be well."""
    pool = pool_of(tmp_path, large=b"x" * 45)
    (tmp_path / "large").write_bytes(b"x" * 40 + b"y" + b"x" * 4)
    with pytest.raises(ArtifactDamagedError, match="large"):
        pauses_of(pool, monkeypatch)
    assert pool.told == []


@pytest.mark.usefixtures("large")
def test_it_ends_when_another_gallery_serves(tmp_path: Path) -> None:
    """Whose files are other ones."""
    pool = pool_of(tmp_path, large=b"x" * 45)
    batcher: Any = SimpleNamespace(is_idle=True, pool="another")
    asyncio.run(check_in_background(pool, batcher))
    assert pool.told == []


@pytest.mark.usefixtures("large")
def test_a_disk_that_cannot_be_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in memory is answered from."""

    def broken(*_: object) -> Iterator[int]:
        raise OSError(5, "input/output error")
        yield 0

    pool = pool_of(tmp_path, large=b"x" * 45)
    monkeypatch.setattr(background_check, "check_blocks", broken)
    assert pauses_of(pool, monkeypatch) == []
    assert pool.told == []
