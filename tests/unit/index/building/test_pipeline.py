"""Files in, embeddings out, in order, whatever the files are."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedder.embedder import Embedder, Prepared
from embedder.picture_files import find_file
from embedder.preprocess import PictureLimits
from index.building.pipeline import PipelineOptions, embed_files, reader_count
from tests.factories import picture_bytes


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Write seven pictures."""
    paths = [tmp_path / f"{seed}.jpg" for seed in range(7)]
    for seed, path in enumerate(paths):
        path.write_bytes(picture_bytes(seed))
    return paths


def embed_alone(embedder: Embedder, path: Path) -> NDArray[np.float32]:
    """Embed one file without the stream."""
    return embedder.embed([embedder.prepare(path.read_bytes())])[0]


def test_batches_come_out_as_they_went_in(embedder: Embedder, paths: list[Path]) -> None:
    """Each batch has its own pictures, in order, with size, time and vector of each."""
    batches = [paths[:3], paths[3:4], [], paths[4:]]
    found = list(embed_files(batches, embedder, options=PipelineOptions(readers=3)))
    assert [len(batch.pictures) for batch in found] == [3, 1, 0, 3]
    assert [(p.bytes, p.mtime_ns) for batch in found for p in batch.pictures] == [
        find_file(path) for path in paths
    ]
    vectors = np.concatenate([batch.vectors for batch in found])
    for vector, path in zip(vectors, paths, strict=True):
        np.testing.assert_allclose(vector, embed_alone(embedder, path), atol=1e-6)


def test_what_is_no_picture_comes_out_with_a_reason(
    embedder: Embedder, paths: list[Path], tmp_path: Path
) -> None:
    """A folder, a file too large to be read whole, an absent one; their neighbors are not hurt."""
    folder, huge, absent = (tmp_path / name for name in ("folder.jpg", "huge.jpg", "absent.jpg"))
    folder.mkdir()
    with huge.open("wb") as file:
        file.write(paths[0].read_bytes())
        file.truncate(64 << 20)
    asked = [folder, paths[0], huge, absent, paths[1]]
    (batch,) = embed_files([asked], embedder)
    assert [picture.usable for picture in batch.pictures] == [False, True, False, False, True]
    faults = [picture.fault for picture in batch.pictures]
    assert "directory" in faults[0]
    assert "at most" in faults[2]
    assert "No such file" in faults[3]
    assert (batch.pictures[2].bytes, batch.pictures[3].bytes) == (64 << 20, -1)
    beginning = huge.read_bytes()[: PictureLimits().max_bytes + 1]
    assert batch.pictures[2].sha256 == hashlib.sha256(beginning).digest()
    assert not batch.vectors[[0, 2, 3]].any()
    np.testing.assert_allclose(batch.vectors[4], embed_alone(embedder, paths[1]), atol=1e-6)


class Blind(Embedder):
    """An embedder that has no vector for the second and third picture of a batch."""

    def __init__(self) -> None:
        """Need no artifact."""

    limits = PictureLimits()
    dimension = 2  # type: ignore[assignment]  # a constant where the real one asks its manifest

    def prepare(self, data: bytes) -> Prepared:
        """Take anything."""
        return (np.frombuffer(data[:2], np.uint8).astype(np.float32),)

    def embed(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        """Give NaN to the second and zeros to the third."""
        vectors = np.tile(np.array([0.6, 0.8], np.float32), (len(prepared), 1))
        vectors[1:2], vectors[2:3] = np.nan, 0.0
        return vectors


def test_a_picture_without_a_vector_is_unusable(paths: list[Path]) -> None:
    """NaN and zeros are never stored or searched for."""
    (batch,) = embed_files([paths[:4]], Blind())
    assert [picture.usable for picture in batch.pictures] == [True, False, False, True]
    assert batch.pictures[1].fault == "the embedder has no vector for it"
    assert not batch.vectors[1:3].any()


def test_reading_stays_a_few_batches_ahead(embedder: Embedder, paths: list[Path]) -> None:
    """An endless list is taken as it is needed, and abandoning the stream ends its threads."""
    taken = count()

    def endless() -> Iterator[list[Path]]:
        while next(taken) >= 0:
            yield paths[:2]

    stream = embed_files(endless(), embedder, options=PipelineOptions(readers=2))
    for _ in range(5):
        next(stream)
    assert next(taken) <= 5 + 4
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


class Gathering(Blind):
    """An embedder whose pictures are decoded together, by so many threads."""

    def __init__(self, threads: int) -> None:
        """Wait for them, though not for ever."""
        self.met = threading.Barrier(threads, timeout=30)

    def prepare(self, data: bytes) -> Prepared:
        """Wait until each thread has a picture."""
        self.met.wait()
        return super().prepare(data)


def test_no_reader_waits_for_the_network(paths: list[Path]) -> None:
    """However small the batches: 24 threads have 24 pictures, before the first batch comes out."""
    batches = [paths[:2]] * 12
    found = list(embed_files(batches, Gathering(24), options=PipelineOptions(readers=24)))
    assert len(found) == 12
    assert all(batch.pictures[0].usable for batch in found)


def test_readers_are_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container of two cores has two, whatever the machine has."""
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5})
    assert reader_count(0) == 2
    assert reader_count(7) == 7
