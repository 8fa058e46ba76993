"""From picture files to embeddings, the disk and the decoder working ahead of the network.

What is made of the embeddings is the caller's: a build stores them, a prediction searches
with them. A file that cannot be used does not end the stream; it comes out with the reason.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
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
from embedder.preprocess import PictureLimits

BATCH_PICTURES = 16
"""Pictures that the network gets at once, unless another number is asked for."""

_AHEAD = 3
"""Batches that are read and decoded while the network is busy with an earlier one."""

_READ_BYTES = PictureLimits().max_bytes + 1
"""No more of a file is read: one byte over the limit is enough to be refused for it."""


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
    """

    pictures: Sequence[ReadPicture]
    vectors: NDArray[np.float32]


def embed_files(
    batches: Iterable[Sequence[Path]], embedder: Embedder, *, readers: int = 0
) -> Iterator[EmbeddedBatch]:
    """Embed files batch by batch, in order.

    The network sees exactly the usable pictures of one batch at a time, so what comes out
    for a batch does not depend on the batches before it.

    Args:
        batches: The files of each batch; taken as they are needed.
        embedder: Embeds them.
        readers: Threads that read and decode; 0 for one per core.
    """
    readers = readers or os.cpu_count() or 1
    with ThreadPoolExecutor(readers, "reader") as pool:

        def start(batch: Sequence[Path]) -> list[Future[tuple[ReadPicture, Prepared | None]]]:
            return [pool.submit(_read, path, embedder) for path in batch]

        source = iter(batches)
        waiting = deque(start(batch) for batch in islice(source, _AHEAD))
        while waiting:
            results = [future.result() for future in waiting.popleft()]
            waiting.extend(start(batch) for batch in islice(source, 1))
            yield _embed(results, embedder)


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


def _read(path: Path, embedder: Embedder) -> tuple[ReadPicture, Prepared | None]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_READ_BYTES)
    except OSError as error:
        # No size and time are noted: mended permissions change neither, and it is to be read again.
        return ReadPicture(bytes(32), -1, -1, error.strerror or "it cannot be read"), None
    digest = hashlib.sha256(data).digest()
    try:
        prepared, fault = embedder.prepare(data), ""
    except PictureError as error:
        prepared, fault = None, error.reason
    return ReadPicture(digest, status.st_size, status.st_mtime_ns, fault), prepared


def _embed(
    results: Sequence[tuple[ReadPicture, Prepared | None]], embedder: Embedder
) -> EmbeddedBatch:
    pictures = [picture for picture, _ in results]
    vectors = np.zeros((len(results), embedder.dimension), np.float32)
    usable = [place for place, picture in enumerate(pictures) if picture.usable]
    if usable:
        vectors[usable] = embedder.embed([p for _, p in results if p is not None])
    for place in usable:
        if not (np.isfinite(vectors[place]).all() and vectors[place].any()):
            pictures[place] = replace(pictures[place], fault="the embedder has no vector for it")
            vectors[place] = 0.0
    return EmbeddedBatch(pictures, vectors)
