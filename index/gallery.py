"""The one door to FAISS: write the vectors of a gallery, open a gallery, search it.

A gallery is mapped, not read, and never changed: FAISS would take the process down on an
attempt. Here too is the one place where similarities are clamped and ties are settled, so that
every reader of a gallery gives the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from embedder.errors import (
    ArtifactDamagedError,
    ArtifactMismatchError,
    ArtifactMissingError,
)
from index.catalog import CATALOG, Catalog
from index.distractors import Distractors
from index.manifest import GalleryManifest, check_files, read_manifest
from index.store import Store

VECTORS = "vectors.faiss"

_SPARE = 7
"""How many more neighbors than wanted are looked at, to see whether a tie goes on."""


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The rows of a gallery nearest to each query.

    Attributes:
        rows: ``(n, k)`` int64, nearest first; of rows exactly as near, the smaller number.
        similarities: ``(n, k)`` float32, cosine in [-1, 1], aligned with ``rows``.
    """

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]


class _Vectors(Protocol):
    """What is used of an index of FAISS."""

    ntotal: int
    d: int

    def search(
        self, x: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]: ...


class Gallery:
    """An open gallery. Safe to search from several threads.

    Attributes:
        directory: Where its files are.
        manifest: What it says of itself.
        catalog: What its rows are.
        distractors: Pictures of no landmark, and what each row pays for its likeness to them;
            ``None`` where it was built without.
    """

    def __init__(
        self,
        directory: Path,
        manifest: GalleryManifest,
        catalog: Catalog,
        vectors: _Vectors,
        threads: int,
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        self.catalog = catalog
        self.distractors = (
            Distractors.open(directory, rows=manifest.rows, dimension=manifest.dimension)
            if manifest.distractors
            else None
        )
        self._vectors: _Vectors | None = vectors
        self._threads = threads

    @classmethod
    def open(
        cls,
        store: Path,
        *,
        embedder_digest: str | None,
        build: str | None = None,
        threads: int = 0,
    ) -> Gallery:
        """Open a gallery of a store.

        Args:
            store: The store.
            embedder_digest: The embedder whose vectors will be searched for; ``None`` only
                for a reader that does not search.
            build: By default the published one.
            threads: As for :meth:`open_directory`.

        Raises:
            NoGalleryError: Nothing is published.
            ArtifactMissingError: The build, or a file of it, is not there.
            ArtifactDamagedError: A file was altered or truncated.
            ArtifactMismatchError: Another embedder made it, or its files contradict each other.
        """
        directory = Store(store).directory(build)
        return cls.open_directory(directory, embedder_digest=embedder_digest, threads=threads)

    @classmethod
    def open_directory(
        cls, directory: Path, *, embedder_digest: str | None, threads: int = 0
    ) -> Gallery:
        """Open the gallery in ``directory``; large files are checked by size only.

        Args:
            directory: The gallery.
            embedder_digest: As for :meth:`open`.
            threads: How many cores a search may use; 0 leaves it to FAISS.

        Raises:
            ArtifactMissingError: A file is not there.
            ArtifactDamagedError: A file was altered or truncated.
            ArtifactMismatchError: Another embedder made it, or its files contradict each other.
        """
        manifest = read_manifest(directory)
        if embedder_digest is not None and embedder_digest != manifest.embedder.digest:
            raise ArtifactMismatchError(
                f"embedder of the gallery {directory}",
                expected=embedder_digest,
                found=manifest.embedder.digest,
            )
        check_files(directory, manifest, deep=False)
        vectors = _map_vectors(directory / VECTORS)
        catalog = Catalog.open(directory)
        stated = f"{manifest.rows} x {manifest.dimension}"
        if (found := f"{vectors.ntotal} x {vectors.d}") != stated:
            raise ArtifactMismatchError(
                f"vectors in {directory / VECTORS}", expected=stated, found=found
            )
        if len(catalog) != manifest.rows:
            raise ArtifactMismatchError(
                f"rows in {directory / CATALOG}",
                expected=str(manifest.rows),
                found=str(len(catalog)),
            )
        return cls(directory, manifest, catalog, vectors, threads)

    def __len__(self) -> int:
        return self.manifest.rows

    @property
    def build_id(self) -> str:
        """The name of this gallery in its store."""
        return self.manifest.build_id

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbors:
        """Find the ``k`` rows nearest to each query.

        Rows are ordered by similarity, ties by landmark id, then picture id. What is compared
        is the similarity before it is clamped, so that of several rows that are all reported
        as 1 the nearest still comes first.

        Args:
            queries: ``(n, d)`` unit rows, finite.
            k: At least 1; more than there are rows finds all of them.

        Raises:
            ValueError: ``queries`` has another shape or is not finite, ``k`` is below 1,
                or the gallery is closed.
        """
        if self._vectors is None:
            raise ValueError("the gallery is closed")
        return _search(self._vectors, queries, k, self._threads)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of ``rows`` as they are stored, in fp16.

        Args:
            rows: ``(n,)`` row numbers.

        Returns:
            ``(n, d)`` rows, of length 1 as far as fp16 can tell.

        Raises:
            ValueError: The gallery is closed.
        """
        if self._vectors is None:
            raise ValueError("the gallery is closed")
        if not len(rows):
            return np.empty((0, self._vectors.d), np.float32)
        return self._vectors.reconstruct_batch(np.ascontiguousarray(rows, np.int64))

    def close(self) -> None:
        """Let go of the mapped vectors; the gallery cannot be searched afterwards."""
        self._vectors = None


def nearest(gallery: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> Neighbors:
    """Find the ``k`` rows of an array nearest to each query, exactly, in float32.

    Args:
        gallery: ``(m, d)`` unit rows.
        queries: ``(n, d)`` unit rows.
        k: At least 1; more than there are rows finds all of them.

    Raises:
        ValueError: As for :meth:`Gallery.search`, or ``gallery`` is empty or not finite.

    >>> nearest(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[1:], 1).rows.tolist()
    [[1], [2]]
    """
    if gallery.ndim != 2 or not gallery.size or not np.isfinite(gallery).all():
        raise ValueError(f"a gallery needs finite rows, not an array of shape {gallery.shape}")
    vectors = faiss.IndexFlatIP(gallery.shape[1])
    vectors.add(np.ascontiguousarray(gallery, np.float32))
    return _search(vectors, queries, k, threads=0)


def write_vectors(path: Path, dimension: int, blocks: Iterable[NDArray[np.float32]]) -> int:
    """Write the vectors of a gallery of the kind ``exact``.

    Args:
        path: The file to write.
        dimension: Length of a vector.
        blocks: ``(m, dimension)`` unit rows each, in the order of the catalog.

    Returns:
        How many rows were written.

    Raises:
        ValueError: A block is not finite.
        OSError: The file cannot be written.
    """
    vectors = faiss.IndexScalarQuantizer(
        dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    for block in blocks:
        if not np.isfinite(block).all():
            raise ValueError("a vector is not finite")
        vectors.add(np.ascontiguousarray(block, np.float32))
    with path.open("wb") as file:  # our own file: FAISS's says nothing when closing it fails
        writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined]  # not in stubs
        faiss.write_index(vectors, writer)
    return int(vectors.ntotal)


def _map_vectors(path: Path) -> _Vectors:
    try:
        vectors: _Vectors = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        if not path.is_file():
            raise ArtifactMissingError(path) from error
        raise ArtifactDamagedError(path, "FAISS cannot read it") from error
    return vectors


def _search(vectors: _Vectors, queries: NDArray[np.float32], k: int, threads: int) -> Neighbors:
    if queries.ndim != 2 or queries.shape[1] != vectors.d:
        raise ValueError(f"queries have the shape {queries.shape}, not (n, {vectors.d})")
    if not np.isfinite(queries).all():
        raise ValueError("a query is not finite")
    if k < 1:
        raise ValueError("k must be at least 1")
    if threads:
        faiss.omp_set_num_threads(threads)  # OpenMP keeps it per thread, so at each search
    k = min(k, vectors.ntotal)
    found = _settle(vectors, np.ascontiguousarray(queries, np.float32), k, k + _SPARE)
    return Neighbors(found.rows, found.similarities.clip(-1.0, 1.0))


def _settle(vectors: _Vectors, queries: NDArray[np.float32], k: int, width: int) -> Neighbors:
    """Find the ``k`` first of all rows ordered by similarity, then row number.

    FAISS keeps any of several rows that are exactly as near. So ``width`` rows are looked at,
    and where the tie of the ``k``-th goes on to the last of them, more.
    """
    width = min(width, vectors.ntotal)
    similarities, rows = vectors.search(queries, width)
    order = np.lexsort((rows, -similarities))
    rows = np.take_along_axis(rows, order, axis=1)
    similarities = np.take_along_axis(similarities, order, axis=1)
    undecided = np.flatnonzero(similarities[:, k - 1] == similarities[:, -1])
    if undecided.size and width < vectors.ntotal:
        wider = _settle(vectors, queries[undecided], k, 8 * width)
        rows[undecided, :k], similarities[undecided, :k] = wider.rows, wider.similarities
    return Neighbors(rows[:, :k], similarities[:, :k])
