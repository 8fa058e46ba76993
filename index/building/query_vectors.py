"""Embed pictures that are no rows of a gallery: queries and distractors.

Their vectors stay in a database of the store, so that the next command does not compute them
again. A command can do without it: where it cannot be used, a warning says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from embedder.picture_files import find_file
from index.building.embedded import EmbeddedBatch, ReadPicture
from index.building.pipeline import (
    BLOCK_PICTURES,
    DEFAULT_OPTIONS,
    PipelineOptions,
    cut,
    embed_files,
)
from index.building.vector_cache import Found, VectorCache
from index.gallery.manifest import EmbedderReference
from index.progress import progress_bar

MOST_VECTORS = 1 << 19
"""Vectors that stay: 1.1 GB of 512 numbers, four times the queries of Google Landmarks v2."""

_UNREAD = ReadPicture(bytes(32), -1, -1, "it was not read yet")

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


def embed_paths(
    paths: Sequence[Path],
    embedder: Embedder,
    what: str,
    options: PipelineOptions = DEFAULT_OPTIONS,
) -> Iterator[EmbeddedBatch]:
    """Embed files in blocks, in order, with a progress bar on stderr that is titled ``what``."""
    with closing(_KeptVectors(options.cache, embedder)) as kept:
        known = 0
        with progress_bar(len(paths), what=what) as bar:
            for block in cut(paths, BLOCK_PICTURES):
                batch = _embed_block(block, embedder, kept, options, bar.update)
                known += len(batch.usable()) - batch.embedded
                yield batch
        if known:
            _log.info("%d of %d pictures were embedded before", known, len(paths))


def _embed_block(
    paths: Sequence[Path],
    embedder: Embedder,
    kept: _KeptVectors,
    options: PipelineOptions,
    watch: Callable[[int], object],
) -> EmbeddedBatch:
    """Embed the files that are not known; ``watch`` is told how many were done."""
    pictures, vectors = list[ReadPicture](), np.zeros((len(paths), embedder.dimension), np.float32)
    places, embedded = list[int](), 0
    for place, found in enumerate(kept.find(paths)):
        if found is not None:
            pictures.append(found.picture)
            vectors[place] = found.vector
        else:
            pictures.append(_UNREAD)
            places.append(place)
    watch(len(paths) - len(places))
    batches = cut([paths[place] for place in places], options.batch_pictures)
    stream = embed_files(batches, embedder, options=options, known=kept.find_content)
    for own, batch in zip(cut(places, options.batch_pictures), stream, strict=True):
        kept.keep([paths[place] for place in own], batch)
        embedded += batch.embedded
        vectors[list(own)] = batch.vectors
        for place, picture in zip(own, batch.pictures, strict=True):
            pictures[place] = picture
        watch(len(own))
    return EmbeddedBatch(pictures, vectors, [None] * len(paths), embedded)


class _KeptVectors:
    """A cache that a command can do without.

    Pictures that cannot be read are read again by each command, which may have learned their
    format since.
    """

    def __init__(self, path: Path | None, embedder: Embedder) -> None:
        self._cache: VectorCache | None = None
        if path is not None:
            self._cache = self._attempt(lambda: self._open(path, embedder))

    @staticmethod
    def _open(path: Path, embedder: Embedder) -> VectorCache:
        path.parent.mkdir(parents=True, exist_ok=True)
        return VectorCache(path, EmbedderReference.of(embedder), embedder.dimension)

    def close(self) -> None:
        if (cache := self._cache) is not None:
            self._attempt(lambda: cache.keep_newest(MOST_VECTORS))
            cache.close()

    def find(self, paths: Sequence[Path]) -> Sequence[Found | None]:
        if (cache := self._cache) is None:
            return [None] * len(paths)
        states = [find_file(path) for path in paths]
        return self._attempt(lambda: list(cache.find(paths, states))) or [None] * len(paths)

    def find_content(self, sha256: bytes) -> NDArray[np.float32] | None:
        if (cache := self._cache) is None:
            return None
        return self._attempt(lambda: cache.find_content(sha256))

    def keep(self, paths: Sequence[Path], batch: EmbeddedBatch) -> None:
        if (cache := self._cache) is not None and (usable := batch.usable()):
            files = [paths[place] for place in usable]
            self._attempt(lambda: cache.write(files, batch.take(usable)))

    def _attempt(self, use: Callable[[], _Result]) -> _Result | None:
        try:
            return use()
        except OSError as error:
            _log.warning("vectors are not kept for the next command: %s", error)
            self._cache = None
            return None
