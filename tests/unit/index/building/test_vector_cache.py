"""Vectors that were computed before come back to the bit, or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from embedder.artifacts.files import sha256_bytes
from embedder.picture_files import find_file
from index.building.embedded import EmbeddedBatch, ReadPicture
from index.building.vector_cache import (
    CACHE,
    Found,
    VectorCache,
    delete_cache,
    keep_embedders,
)
from index.gallery.manifest import EmbedderReference

DIMENSION = 5
EMBEDDER = EmbedderReference(
    name="drawn", digest=sha256_bytes(b"one"), runtime="openvino", precision="f32"
)
OTHERS = [
    EMBEDDER.model_copy(update={"digest": sha256_bytes(b"other")}),
    EMBEDDER.model_copy(update={"precision": "bf16"}),
    EMBEDDER.model_copy(update={"runtime": "torch_export"}),
]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write four files, the third of which is said to be no picture."""
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_bytes(b"x" * (number + 1))
    return paths


def batch_of(files: list[Path], *, seed: int = 0, thumbnail: bytes | None = None) -> EmbeddedBatch:
    """Make a batch as if the files had been embedded."""
    pictures = [
        ReadPicture(bytes([number]) * 32, *find_file(path), fault="no picture" * (number == 2))
        for number, path in enumerate(files)
    ]
    vectors = np.random.default_rng(seed).standard_normal((len(files), DIMENSION), np.float32)
    vectors[[not picture.usable for picture in pictures]] = 0.0
    return EmbeddedBatch(pictures, vectors, [thumbnail] * len(files))


def opened(tmp_path: Path, embedder: EmbedderReference = EMBEDDER, side: int = 0) -> VectorCache:
    """Open the cache in its own connection."""
    return VectorCache(tmp_path / CACHE, embedder, DIMENSION, side=side)


def known(cache: VectorCache, path: Path) -> Found | None:
    """Look a file up as it is now."""
    (found,) = cache.find([path], [find_file(path)])
    return found


def test_rows_come_back_to_the_bit(files: list[Path], tmp_path: Path) -> None:
    """By file, by content and by number; also in another process, and the last written counts."""
    with opened(tmp_path, side=9) as cache:
        cache.write(files, batch_of(files, seed=1))
        written = batch_of(files, thumbnail=b"jpeg")
        numbers = cache.write(files, written)
    with opened(tmp_path, side=9) as cache:
        assert cache.count() == 4
        for place, path in enumerate(files):
            found = known(cache, path)
            assert found is not None
            assert found.number == numbers[place]
            assert found.picture == written.pictures[place]
            if found.picture.usable:
                assert found.vector.tobytes() == written.vectors[place].tobytes()
            assert found.thumbnail == b"jpeg"
        again = cache.read(numbers[::-1])
        assert again.vectors.tobytes() == written.vectors[::-1].tobytes()
        assert again.pictures == written.pictures[::-1]
        vector = cache.find_content(bytes([1]) * 32)
        assert vector is not None
        assert vector.tobytes() == written.vectors[1].tobytes()
        assert cache.find_content(bytes([2]) * 32) is None  # it is no picture
        assert cache.find_content(bytes([9]) * 32) is None


def test_a_file_is_known_by_its_absolute_path(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a command is run; and names need not be text."""
    odd = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    odd.write_bytes(b"x")
    with opened(tmp_path) as cache:
        cache.write([*files, odd], batch_of([*files, odd]))
        monkeypatch.chdir(tmp_path)
        assert known(cache, Path("0.jpg")) is not None
        assert known(cache, odd) is not None


def test_what_has_changed_is_not_known(files: list[Path], tmp_path: Path) -> None:
    """Another size, another time, a file that is gone, and another size of thumbnails."""
    with opened(tmp_path) as cache:
        cache.write(files, batch_of(files))
        files[0].write_bytes(b"longer")
        os.utime(files[1], ns=(5, 5))
        files[2].unlink()
        assert [known(cache, path) is None for path in files] == [True, True, True, False]
    with opened(tmp_path, side=9) as cache:
        assert known(cache, files[3]) is None
        assert cache.find_content(bytes([3]) * 32) is not None


@pytest.mark.parametrize("other", OTHERS)
def test_embedders_do_not_share(
    files: list[Path], tmp_path: Path, other: EmbedderReference
) -> None:
    """Another embedder, device or precision gives other vectors."""
    with opened(tmp_path) as cache:
        cache.write(files, batch_of(files))
    with opened(tmp_path, other) as cache:
        assert known(cache, files[0]) is None
        assert cache.find_content(bytes([1]) * 32) is None
        cache.write(files, batch_of(files, seed=7))
        assert cache.count() == 8


@pytest.mark.parametrize("column", ["vector", "sha256", "fault", "bytes", "checksum"])
def test_a_damaged_row_is_not_used(
    files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, column: str
) -> None:
    """It is neither found nor read, and writing it again mends it."""
    with opened(tmp_path) as cache:
        numbers = cache.write(files, batch_of(files))
    value = {"bytes": "mtime_ns + 1", "fault": "'x'"}.get(column, f"zeroblob(length({column}))")
    column = {"bytes": "mtime_ns"}.get(column, column)
    with closing(sqlite3.connect(tmp_path / CACHE)) as connection, connection:
        connection.execute(f"UPDATE pictures SET {column} = {value} WHERE id = {numbers[1]}")  # noqa: S608 (of this test)
    with opened(tmp_path) as cache:
        assert known(cache, files[1]) is None
        assert known(cache, files[0]) is not None
        assert cache.find_content(bytes([1]) * 32) is None
        with pytest.raises(OSError, match="changed since it was written"):
            cache.read(numbers)
        assert "is damaged; its picture is embedded again" in caplog.text
        cache.write(files, batch_of(files))
        assert known(cache, files[1]) is not None


def overwrite(path: Path) -> None:
    """Fill the middle of a file with ones."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle:] = b"\1" * (len(data) - middle)
    path.write_bytes(data)


DAMAGES: list[Callable[[Path], object]] = [
    lambda path: path.write_bytes(b"this is text"),
    lambda path: path.write_bytes(path.read_bytes()[:-20_000]),
    overwrite,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_replaced(
    files: list[Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], object],
) -> None:
    """Text, a truncated file, a file with foreign bytes: all is embedded again, with a warning."""
    with opened(tmp_path) as cache:
        cache.write(files, batch_of(files))
    damage(tmp_path / CACHE)
    with opened(tmp_path) as cache:
        assert [known(cache, path) for path in files] == [None] * 4
        cache.write(files, batch_of(files))
    assert "its pictures are embedded again" in caplog.text
    with opened(tmp_path) as cache:
        assert known(cache, files[0]) is not None


def test_a_database_of_another_version_is_replaced(
    files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no more than a cache; the log names the version."""
    with opened(tmp_path) as cache:
        cache.write(files, batch_of(files))
    with closing(sqlite3.connect(tmp_path / CACHE)) as connection:
        connection.execute("PRAGMA user_version = 9")
    with opened(tmp_path) as cache:
        assert cache.count() == 0
    assert "its version is 9" in caplog.text


def test_what_was_written_is_there_without_closing(files: list[Path], tmp_path: Path) -> None:
    """As for the next command after this one was killed; a deleted cache leaves no file."""
    cache = opened(tmp_path)
    cache.write(files, batch_of(files))
    with opened(tmp_path) as other:
        assert other.count() == 4
    cache.close()
    delete_cache(tmp_path / CACHE)
    assert not list(tmp_path.glob(f"{CACHE}*"))


def test_two_readers_and_a_writer_work_at_once(files: list[Path], tmp_path: Path) -> None:
    """Each with a connection of its own: every row that is found is whole."""
    rounds = 60

    def write(_: int) -> int:
        with opened(tmp_path) as cache:
            for seed in range(rounds):
                cache.write(files, batch_of(files, seed=seed))
            return rounds

    def read(_: int) -> int:
        found = 0
        with opened(tmp_path) as cache:
            while found < rounds and not (written.done() and written.exception()):
                row = known(cache, files[3])
                if row is not None:
                    found += 1
                    assert np.isfinite(row.vector).all()
        return found

    with ThreadPoolExecutor(3) as pool:
        written = pool.submit(write, 0)
        works = [written, pool.submit(read, 0), pool.submit(read, 0)]
        assert [work.result(timeout=60) for work in works] == [rounds] * 3


def test_several_may_be_the_first_to_open_it(tmp_path: Path) -> None:
    """SQLite refuses all but one of those who make the same database at once."""
    for number in range(100):
        folder = tmp_path / str(number)
        folder.mkdir()
        ready = Barrier(3)

        def open_one(folder: Path = folder, ready: Barrier = ready) -> None:
            ready.wait()
            opened(folder).close()

        with ThreadPoolExecutor(3) as pool:
            for work in [pool.submit(open_one) for _ in range(3)]:
                work.result(timeout=60)


def test_old_rows_and_rows_of_lost_embedders_are_deleted(files: list[Path], tmp_path: Path) -> None:
    """The newest stay, in a smaller file; nothing is made where there is none."""
    with opened(tmp_path, OTHERS[0]) as other:
        other.write(files, batch_of(files))
    with opened(tmp_path) as cache:
        numbers = cache.write(files, batch_of(files))
        assert keep_embedders(tmp_path / CACHE, {EMBEDDER.digest}) == 4
        assert cache.count() == 4
        cache.keep_newest(2)
        assert [known(cache, path) is None for path in files] == [True, True, False, False]
        cache.forget(np.array(numbers[2:3]))
        assert [known(cache, path) is None for path in files] == [True, True, True, False]
    assert keep_embedders(tmp_path / "none", {EMBEDDER.digest}) == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("forgotten", "smaller"), [(399, True), (100, False)])
def test_the_file_shrinks_when_most_is_forgotten(
    files: list[Path], tmp_path: Path, *, forgotten: int, smaller: bool
) -> None:
    """A few deleted rows are not worth a copy of all others, which may be millions."""
    names = [tmp_path / f"{number}" for number in range(400)]
    batch = batch_of(files, thumbnail=b"x" * 4000)
    with opened(tmp_path, side=9) as cache:
        numbers = cache.write(names, batch.take([0] * 400))
    before = (tmp_path / CACHE).stat().st_size
    with opened(tmp_path, side=9) as cache:
        cache.forget(np.array(numbers[:forgotten]))
        assert cache.count() == 400 - forgotten
        assert cache.read(numbers[-1:]).thumbnails == [b"x" * 4000]
    assert ((tmp_path / CACHE).stat().st_size < before / 4) is smaller


def test_a_cache_that_cannot_be_written_is_an_error_of_its_file(tmp_path: Path) -> None:
    """It names the file, as the errors of any other do."""
    (tmp_path / CACHE).mkdir()
    with pytest.raises(OSError, match="unable to open") as caught:
        opened(tmp_path)
    assert caught.value.filename == str(tmp_path / CACHE)
