"""From picture files to embeddings, the disk and the decoder working ahead of the network.

What is made of the embeddings is the caller's: a build stores them, a prediction searches
with them. A file that cannot be used does not end the stream; it comes out with the reason.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from embedder.embedder import Embedder, Prepared
from embedder.errors import PictureError
from embedder.thumbnail import make_thumbnail
from index.building.stage_timing import DECODE, NETWORK, READ, Stages

BATCH_PICTURES = 16
"""Pictures that the network gets at once, unless another number is asked for."""

_AHEAD = 3
"""Batches that are read and decoded while the network is busy with an earlier one."""

Known = Callable[[bytes], NDArray[np.float32] | None]
"""Gives the vector of a content that was embedded before, by its SHA-256, or ``None``."""


@dataclass(frozen=True, slots=True)
class ReadPicture:
    """A picture file as it was found.

    Attributes:
        sha256: Digest of its content, 32 bytes, or of its beginning where it is too large to be
            read; zeros where it could not be opened.
        bytes: Its size; -1 where it is not there.
        mtime_ns: When it was last changed; -1 where it is not there.
        fault: Why it cannot be used, in words; empty where it can.
    """

    sha256: bytes
    bytes: int
    mtime_ns: int
    fault: str = ""

    @property
    def usable(self) -> bool:
        """Whether the picture was decoded."""
        return not self.fault


@dataclass(frozen=True, slots=True)
class EmbeddedBatch:
    """One batch of the stream.

    Attributes:
        pictures: ``b`` pictures, in the order in which they were asked for.
        vectors: ``(b, d)`` unit rows; zeros for a picture that cannot be used.
        thumbnails: A small JPEG of each, ``None`` where it was not asked for or cannot be made.
    """

    pictures: Sequence[ReadPicture]
    vectors: NDArray[np.float32]
    thumbnails: Sequence[bytes | None]

    def usable(self) -> list[int]:
        """Return the places of the pictures that were decoded and have a vector."""
        return [place for place, picture in enumerate(self.pictures) if picture.usable]


@dataclass(frozen=True, slots=True)
class _Read:
    """A picture on its way: with what the network needs, or with the vector it has already."""

    picture: ReadPicture
    prepared: Prepared | None = None
    vector: NDArray[np.float32] | None = None
    thumbnail: bytes | None = None


def embed_files(
    batches: Iterable[Sequence[Path]],
    embedder: Embedder,
    *,
    readers: int = 0,
    known: Known | None = None,
    stages: Stages | None = None,
    thumbnail_side: int = 0,
) -> Iterator[EmbeddedBatch]:
    """Embed files batch by batch, in order.

    The network sees exactly the usable pictures of one batch at a time, so what comes out
    for a batch does not depend on the batches before it.

    Args:
        batches: The files of each batch; taken as they are needed.
        embedder: Embeds them.
        readers: Threads that read and decode; 0 for one per core.
        known: Spares the network what was embedded before.
        stages: Told how long each stage is busy.
        thumbnail_side: Most pixels of a side of the thumbnails; 0 makes none.
    """
    readers = reader_count(readers)
    stages = stages or Stages(readers)
    reader = _Reader(embedder, known, stages, thumbnail_side)
    with ThreadPoolExecutor(readers, "reader") as pool:

        def start(batch: Sequence[Path]) -> list[Future[_Read]]:
            return [pool.submit(reader.read, path) for path in batch]

        source = iter(batches)
        waiting = deque(start(batch) for batch in islice(source, _AHEAD))
        while waiting:
            results = [future.result() for future in waiting.popleft()]
            waiting.extend(start(batch) for batch in islice(source, 1))
            yield _embed(results, embedder, stages)


def embed_paths(
    paths: Sequence[Path],
    embedder: Embedder,
    *,
    what: str,
    batch_pictures: int = BATCH_PICTURES,
    readers: int = 0,
) -> Iterator[EmbeddedBatch]:
    """Embed files in batches, in order, with a progress bar on stderr.

    Args:
        paths: The files.
        embedder: Embeds them.
        what: Title of the progress bar.
        batch_pictures: Pictures per batch of the network.
        readers: Threads that read and decode; 0 for one per core.
    """
    starts = range(0, len(paths), batch_pictures)
    batches = (paths[start : start + batch_pictures] for start in starts)
    with progress_bar(len(paths), what=what) as bar:
        for batch in embed_files(batches, embedder, readers=readers):
            yield batch
            bar.update(len(batch.pictures))


def reader_count(readers: int) -> int:
    """Return how many threads read and decode where ``readers`` are asked for: 0 is one a core."""
    return readers or os.cpu_count() or 1


def find_file(path: Path) -> tuple[int, int]:
    """Return size and time of last change (ns) of a file, or -1 and -1 where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns


def progress_bar(total: int, *, done: int = 0, what: str) -> tqdm[NoReturn]:
    """Return a progress bar of pictures on stderr; seldom redrawn where nobody watches."""
    seconds = 0.2 if sys.stderr.isatty() else 30.0
    bar: tqdm[NoReturn] = tqdm(
        total=total, initial=done, desc=what, unit="picture", file=sys.stderr, mininterval=seconds
    )
    return bar


class _Reader:
    """Reads and decodes one file at a time, in any thread."""

    def __init__(
        self, embedder: Embedder, known: Known | None, stages: Stages, thumbnail_side: int
    ) -> None:
        self._embedder = embedder
        self._known = known
        self._stages = stages
        self._thumbnail_side = thumbnail_side
        self._read_bytes = embedder.limits.max_bytes + 1  # one over is enough to be refused for

    def read(self, path: Path) -> _Read:
        """Read a file, and decode it unless its content is known."""
        try:
            with self._stages.busy(READ), path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read(self._read_bytes)
                digest = hashlib.sha256(data).digest()
        except OSError as error:
            # No size and time are noted: mended permissions change neither, so it is read again.
            return _Read(ReadPicture(bytes(32), -1, -1, error.strerror or "it cannot be read"))
        picture = ReadPicture(digest, status.st_size, status.st_mtime_ns)
        vector = None if self._known is None else self._known(digest)
        try:
            with self._stages.busy(DECODE):
                prepared = self._embedder.prepare(data) if vector is None else None
                side = self._thumbnail_side
                thumbnail = make_thumbnail(data, side) if side else None
        except PictureError as error:
            return _Read(replace(picture, fault=error.reason))
        return _Read(picture, prepared, vector, thumbnail)


def _embed(results: Sequence[_Read], embedder: Embedder, stages: Stages) -> EmbeddedBatch:
    pictures = [result.picture for result in results]
    vectors = np.zeros((len(results), embedder.dimension), np.float32)
    for place, result in enumerate(results):
        if result.vector is not None:
            vectors[place] = result.vector
    prepared = [result.prepared for result in results if result.prepared is not None]
    places = [place for place, result in enumerate(results) if result.prepared is not None]
    if places:
        with stages.busy(NETWORK):
            vectors[places] = embedder.embed(prepared)
    for place in places:
        if not (np.isfinite(vectors[place]).all() and vectors[place].any()):
            pictures[place] = replace(pictures[place], fault="the embedder has no vector for it")
            vectors[place] = 0.0
    return EmbeddedBatch(pictures, vectors, [result.thumbnail for result in results])
