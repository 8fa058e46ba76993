"""From picture files to embeddings; reading and decoding work ahead of the network.

A file that cannot be used does not end the stream; it comes out with a reason. What becomes of
the embeddings is the caller's business.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder, Prepared
from embedder.errors import PictureError
from embedder.picture_files import find_file, open_file
from embedder.preprocess import PictureLimits
from embedder.thumbnail import make_thumbnail
from index.building.defaults import BATCH_PICTURES
from index.building.embedded import EmbeddedBatch, ReadPicture
from photographs import PhotographList

READ, DECODE, NETWORK, WRITE = "reading", "decoding", "network", "writing"

BLOCK_PICTURES = 4096
"""Pictures that are looked for, or written, at a time."""

_AHEAD = 3
"""Batches that are read and decoded while the network is busy with an earlier one."""

_AHEAD_PER_READER = 2
"""Pictures that there are at least in these batches for each thread, so that none waits."""


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """Options of everything that embeds pictures.

    Attributes:
        batch_pictures: Pictures per batch of the network.
        readers: Threads that read and decode; 0 for one per core.
        cache: Database of vectors of pictures that are no rows of a gallery, see
            :mod:`index.building.query_vectors`; ``None`` computes them every time.
        max_pixels: Largest picture that is read; ``None`` for that of the gallery.
        max_bytes: The same in bytes of its file.
    """

    batch_pictures: int = BATCH_PICTURES
    readers: int = 0
    cache: Path | None = None
    max_pixels: int | None = None
    max_bytes: int | None = None

    def limits(self, default: PictureLimits) -> PictureLimits:
        """Return the limits of pictures, the default where none are given."""
        return PictureLimits(
            self.max_bytes or default.max_bytes, self.max_pixels or default.max_pixels
        )

    def within(self, default: PictureLimits) -> PipelineOptions:
        """Return the options with all limits given."""
        return replace(self, **asdict(self.limits(default)))


DEFAULT_OPTIONS = PipelineOptions()

_Item = TypeVar("_Item")

KnownVectors = Callable[[bytes], NDArray[np.float32] | None]
"""Looks up the vector of a content that was embedded before, by its SHA-256."""


class StageTimes:
    """The busy time of each stage, which shows the bottleneck. Thread-safe.

    ``readers`` threads read and decode; the other stages have one thread each.
    """

    def __init__(self, readers: int) -> None:
        self._threads = {READ: readers, DECODE: readers, NETWORK: 1, WRITE: 1}
        self._started = time.monotonic()
        self._seconds = dict.fromkeys(self._threads, 0.0)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Count the time of the ``with`` block as work of ``stage``."""
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            with self._lock:
                self._seconds[stage] += seconds

    def shares(self) -> dict[str, float]:
        """Return the share of its threads' time that each stage was busy, in [0, 1].

        Reading and decoding share their threads, so their two shares add up.
        """
        elapsed = max(time.monotonic() - self._started, 1e-9)
        with self._lock:
            return {s: t / elapsed / self._threads[s] for s, t in self._seconds.items()}

    def __str__(self) -> str:
        """Name the bottleneck: the busiest threads, and for readers what they do most."""
        shares = self.shares()
        reading = max((READ, DECODE), key=lambda stage: shares[stage])
        shares[reading] = shares[READ] + shares[DECODE]
        stage = max(shares, key=lambda stage: shares[stage])
        return f"bottleneck {stage} {shares[stage]:.0%}"


def embed_files(
    batches: Iterable[Sequence[Path]],
    embedder: Embedder,
    *,
    options: PipelineOptions = DEFAULT_OPTIONS,
    known: KnownVectors | None = None,
    times: StageTimes | None = None,
    thumbnail_side: int = 0,
) -> Generator[EmbeddedBatch, None, None]:
    """Embed files batch by batch, in order; to close it ends its threads.

    The network sees exactly the usable pictures of one batch at a time, so the vectors of a
    batch do not depend on the batches before it.

    Args:
        batches: The files of each batch; consumed a few batches ahead.
        embedder: Embeds them.
        options: Threads and limits.
        known: Vectors that need not be computed again.
        times: Collects how long each stage is busy.
        thumbnail_side: Longest side of thumbnails in pixels; 0 makes none.
    """
    readers = reader_count(options.readers)
    if (limits := options.limits(embedder.limits)) != embedder.limits:
        embedder = embedder.within(limits)
    reader = _Reader(embedder, known, times or StageTimes(readers), thumbnail_side)
    with ThreadPoolExecutor(readers, "reader") as pool:

        def start(batch: Sequence[Path]) -> list[Future[_Decoded]]:
            return [pool.submit(reader.read, path) for path in batch]

        source, waiting = iter(batches), deque[list[Future[_Decoded]]]()
        while True:
            while len(waiting) < _AHEAD or sum(map(len, waiting)) < _AHEAD_PER_READER * readers:
                if (batch := next(source, None)) is None:
                    break
                waiting.append(start(batch))
            if not waiting:
                return
            yield reader.embed([future.result() for future in waiting.popleft()])


@overload
def cut(items: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]: ...
@overload
def cut(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]: ...
def cut(items: Any, size: int) -> Iterator[Any]:
    """Cut files, or whatever, into batches of ``size``; the last one may be shorter."""
    return (items[start : start + size] for start in range(0, len(items), size))


def reader_count(readers: int) -> int:
    """Resolve a number of reader threads: 0 is one per core that this process may use."""
    return readers or len(os.sched_getaffinity(0))


def find_files(
    photographs: PhotographList, readers: int = 0
) -> Iterator[tuple[list[str], NDArray[np.int64]]]:
    """Look for the files of photographs, block by block, with ``readers`` threads.

    Yields:
        ``b`` paths; and ``(b, 2)``, what :func:`embedder.picture_files.find_file` returns for each.
    """

    def find(begin: int) -> tuple[list[str], NDArray[np.int64]]:
        paths = photographs[begin : begin + BLOCK_PICTURES].paths().to_pylist()
        return paths, np.array([find_file(Path(path)) for path in paths], np.int64).reshape(-1, 2)

    begins, threads = range(0, len(photographs), BLOCK_PICTURES), reader_count(readers)
    with ThreadPoolExecutor(threads, "finder") as pool:
        for first in range(0, len(begins), threads):  # all at once would hold all paths
            yield from pool.map(find, begins[first : first + threads])


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A picture with the network's input, or with the vector that is known already."""

    picture: ReadPicture
    prepared: Prepared | None = None
    vector: NDArray[np.float32] | None = None
    thumbnail: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads, decodes and embeds. ``read`` is thread-safe."""

    embedder: Embedder
    known: KnownVectors | None
    times: StageTimes
    thumbnail_side: int

    def read(self, path: Path) -> _Decoded:
        try:
            with self.times.busy(READ), open_file(path) as file:
                data = file.read(self.embedder.limits.max_bytes + 1)  # one over is refused
                digest = hashlib.sha256(data).digest()
        except OSError as error:
            # Size and time stay unknown: a change of permissions alters neither, so a later
            # build must not take the file for unchanged.
            return _Decoded(ReadPicture(bytes(32), -1, -1, error.strerror or "it cannot be read"))
        picture = ReadPicture(digest, file.size, file.mtime_ns)
        vector = self._find(digest)
        try:
            with self.times.busy(DECODE):
                prepared, thumbnail = self._decode(data, known=vector is not None)
        except PictureError as error:
            return _Decoded(replace(picture, fault=error.reason))
        return _Decoded(picture, prepared, vector, thumbnail)

    def _decode(self, data: bytes, *, known: bool) -> tuple[Prepared | None, bytes | None]:
        side = self.thumbnail_side
        if known:
            return None, make_thumbnail(data, side, self.embedder.limits) if side else None
        if side:
            return self.embedder.prepare_with_thumbnail(data, side)
        return self.embedder.prepare(data), None

    def embed(self, batch: Sequence[_Decoded]) -> EmbeddedBatch:
        """Compute the vectors that are not known.

        Those that were not known when they were decoded are looked up again: what the network
        gets does not depend on how far ahead the threads were, which may change a last digit.
        """
        pictures = [decoded.picture for decoded in batch]
        vectors = np.zeros((len(batch), self.embedder.dimension), np.float32)
        inputs: dict[int, Prepared] = {}
        for place, decoded in enumerate(batch):
            vector, prepared = decoded.vector, decoded.prepared
            if prepared is not None and (vector := self._find(decoded.picture.sha256)) is None:
                inputs[place] = prepared
            if vector is not None:
                vectors[place] = vector
        if inputs:
            with self.times.busy(NETWORK):
                vectors[list(inputs)] = self.embedder.embed(list(inputs.values()))
        for place in inputs:
            if not (np.isfinite(vectors[place]).all() and vectors[place].any()):
                fault = "the embedder has no vector for it"
                pictures[place], vectors[place] = replace(pictures[place], fault=fault), 0.0
        embedded = sum(pictures[place].usable for place in inputs)
        return EmbeddedBatch(pictures, vectors, [d.thumbnail for d in batch], embedded)

    def _find(self, sha256: bytes) -> NDArray[np.float32] | None:
        return None if self.known is None else self.known(sha256)
