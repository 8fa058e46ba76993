"""Hints to the system: what is read ahead, and that memory on other pages stays what it was."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedder.errors import ArtifactDamagedError, ArtifactMissingError
from index.gallery.gallery import VECTORS, Gallery, _copied_bytes
from index.search.paging import prefetch, read_ahead, use_huge_pages
from tests.unit.index.search.test_kinds import landmark_rows, made

MIB = 1 << 20


@pytest.mark.parametrize(
    ("first", "last"), [(0, 0), (0, 1), (0, MIB), (5, 2 * MIB + 10), (MIB, 9 * MIB), (9 * MIB, MIB)]
)
def test_the_part_is_read_that_was_asked_for_and_is_there(
    tmp_path: Path, first: int, last: int
) -> None:
    """No byte before it or after it, nor more than the file has."""
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * MIB))
    assert sum(read_ahead(path, first, last)) == max(0, min(last, 3 * MIB) - first)


def test_what_is_not_there_is_not_read(tmp_path: Path) -> None:
    """The error says which file."""
    with pytest.raises(FileNotFoundError):
        next(read_ahead(tmp_path / "absent", 0, 1))


def test_what_is_asked_for_comes_by_itself(tmp_path: Path) -> None:
    """Every page of each part and no other, though nobody has looked at them."""
    page = mmap.PAGESIZE
    path = tmp_path / "file"
    path.write_bytes(bytes(100 * page))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_RANDOM)
    memory = np.frombuffer(mapped, np.uint8)
    if pages_in_memory(memory):
        pytest.skip("this file system keeps its files in memory")
    prefetch(memory, np.array([90 * page + 5, 10 * page - 50, 10 * page - 20]), 100)
    end = time.monotonic() + 20
    while len(pages_in_memory(memory)) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    assert pages_in_memory(memory) == [9, 10, 90]


def pages_in_memory(memory: NDArray[np.uint8]) -> list[int]:
    """Ask the system which pages of a mapped file it has."""
    found = np.zeros(-(-len(memory) // mmap.PAGESIZE), np.uint8)
    place = ctypes.c_void_p(memory.ctypes.data)
    there = ctypes.c_void_p(found.ctypes.data)
    assert ctypes.CDLL(None).mincore(place, ctypes.c_size_t(len(memory)), there) == 0
    return np.flatnonzero(found & 1).tolist()


def test_memory_on_huge_pages_stays_what_it_was() -> None:
    """That it was moved is told by the system, not only by the answer."""
    kept = mmap.mmap(-1, 9 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = np.frombuffer(kept, np.uint8)
    memory[:] = before = np.random.default_rng(0).integers(0, 256, 9 * MIB, np.uint8)
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


def test_opening_reads_at_once_what_it_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The codes of a fast scan, which come first in the file; on a GPU everything."""
    asked: list[tuple[int, int]] = []

    def read_ahead(_: Path, first: int, last: int) -> list[int]:
        asked.append((first, last))
        return []

    monkeypatch.setattr("index.search.faiss_search.read_ahead", read_ahead)
    rows = landmark_rows()
    exact = made(tmp_path / "exact", rows, "exact")
    quick = made(tmp_path / "quick", rows, "fastscan")
    size = quick.manifest.files[VECTORS].bytes
    assert asked[-2:] == [(0, 0), (0, size - rows.astype(np.float16).nbytes)]
    codes = len(rows) * rows.shape[1] // 8
    assert codes < asked[-1][1] < 2 * codes
    assert _copied_bytes(exact.manifest, "cuda") == [exact.manifest.files[VECTORS].bytes]


def test_the_codes_of_a_fast_scan_lie_on_huge_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very memory that FAISS searches."""
    moved: list[int] = []
    monkeypatch.setattr(
        "index.search.faiss_search.use_huge_pages", lambda memory: moved.append(memory.nbytes)
    )
    rows = landmark_rows()
    made(tmp_path / "quick", rows, "fastscan")
    assert moved[-1] >= len(rows) * rows.shape[1] // 8


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, OSError])
def test_a_file_that_cannot_be_read_is_told_as_an_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """As missing or as damaged, with its name and what the system says."""
    made(tmp_path, landmark_rows(), "fastscan")

    def read_ahead(path: Path, _first: int, _last: int) -> list[int]:
        if error is FileNotFoundError:
            path.unlink()
        raise error(errno.EIO, "out of order")

    monkeypatch.setattr("index.search.faiss_search.read_ahead", read_ahead)
    missing = error is FileNotFoundError
    with pytest.raises(
        ArtifactMissingError if missing else ArtifactDamagedError,
        match=r"vectors\.faiss is " + ("missing" if missing else "damaged: out of order"),
    ):
        Gallery.open(tmp_path, embedder_digest=None)


def test_what_is_mapped_is_read_ahead(tmp_path: Path) -> None:
    """Everything but what opening has read."""
    rows = landmark_rows()
    for kind in ("exact", "fastscan"):
        gallery = made(tmp_path / kind, rows, kind)
        read, size = sum(gallery.read_ahead()), (gallery.directory / VECTORS).stat().st_size
        assert read == size - sum(_copied_bytes(gallery.manifest, "cpu"))
        assert read >= rows.astype(np.float16).nbytes
