"""Hints to the system: what is read ahead, and that memory on other pages stays what it was."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from index.gallery import VECTORS
from index.paging import read_ahead, use_huge_pages
from tests.unit.index.test_gallery import random_rows
from tests.unit.index.test_kinds import landmark_rows, made

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, MIB, 2 * MIB + 5, 9 * MIB])
def test_so_many_bytes_are_read_as_were_asked_for_and_are_there(tmp_path: Path, size: int) -> None:
    """The first of them, and no more than the file has."""
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * MIB))
    assert sum(read_ahead(path, size)) == min(size, 3 * MIB)


def test_what_is_not_there_is_not_read(tmp_path: Path) -> None:
    """The error says which file."""
    with pytest.raises(FileNotFoundError):
        next(read_ahead(tmp_path / "absent", 1))


def test_memory_on_huge_pages_stays_what_it_was() -> None:
    """That it was moved is told by the system, not only by the answer."""
    kept = mmap.mmap(-1, 9 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = np.frombuffer(kept, np.uint8)
    memory[:] = before = np.random.default_rng(0).integers(0, 256, 9 * MIB, np.uint8)
    assert kib_on_huge_pages(memory) == 0
    moved = use_huge_pages(memory)  # false where the system cannot
    assert kib_on_huge_pages(memory) >= (6 * 1024 if moved else 0)
    np.testing.assert_array_equal(memory, before)


def kib_on_huge_pages(memory: NDArray[np.uint8]) -> int:
    """Look up in the system's list of mappings how much of an array is on huge pages."""
    found = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if head := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            first, last = (int(address, 16) for address in head.groups())
            found = first <= memory.ctypes.data < last
        elif found and line.startswith("AnonHugePages:"):
            return int(line.split()[1])
    raise AssertionError("the array is in no mapping")


def test_less_than_a_huge_page_stays_where_it_is() -> None:
    """Its neighbors in memory belong to others."""
    assert not use_huge_pages(np.zeros(2 * MIB - 1, np.uint8))


def test_opening_reads_what_every_search_looks_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of an exact gallery; of another one the codes, which come first in the file."""
    asked: list[int] = []

    def read_ahead(_: Path, size: int) -> list[int]:
        asked.append(size)
        return []

    monkeypatch.setattr("index.gallery.read_ahead", read_ahead)
    rows = landmark_rows()
    exact = made(tmp_path / "exact", rows, "exact")
    quick = made(tmp_path / "quick", rows, "fastscan")
    whole, part = (gallery.manifest.files[VECTORS].bytes for gallery in (exact, quick))
    codes = len(rows) * rows.shape[1] // 8
    assert asked[-2:] == [whole, part - rows.astype(np.float16).nbytes]
    assert codes < asked[-1] < 2 * codes


def test_a_gallery_is_read_ahead_whole(tmp_path: Path) -> None:
    """The part that a search looks at here and there, too."""
    gallery = made(tmp_path, random_rows(3000), "fastscan")
    assert sum(gallery.read_ahead()) == (gallery.directory / VECTORS).stat().st_size
