"""The one door to FAISS: write the vectors of a gallery, open a gallery, search it.

A gallery is mapped, not read, and never changed: FAISS would take the process down on an
attempt. Here too is the one place where similarities are clamped, ties are settled and removed
rows are left out, so that every reader of a gallery gives the same answer.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.arrays import read_npz
from embedder.artifacts.files import check_files
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactMismatchError,
    ArtifactMissingError,
    GalleryError,
)
from index.gallery.catalog import CATALOG, Catalog
from index.gallery.credits import CREDITS, Credits
from index.gallery.distractors import Distractors
from index.gallery.manifest import GalleryManifest, read_manifest
from index.gallery.store import Store
from index.gallery.thumbnails import Thumbnails
from index.gallery.tombstones import REMOVED
from index.search.kinds import EXACT, FP16_BYTES, Kind
from index.search.paging import ask_for, read_ahead, use_huge_pages

VECTORS = "vectors.faiss"

_SPARE = 7
"""How many more neighbors than wanted are looked at, to see whether a tie goes on."""

_PER_NEIGHBOR = 4
"""At least so many rows get the second look for each neighbor that is wanted."""

_K_FACTOR = 1000  # where the manifest has none
_GPU_K_FACTOR, _GPU_MOST = 64, 2048  # FAISS's GPU search returns no more rows than these
_BLOCK_ROWS, _BLOCK_QUERIES = 1 << 16, 256
_ASKED_ROWS = 1 << 13  # for more, comparing them one call each would take too long
_YIELDED_ROWS = 1 << 14

_KERNEL = 15
"""FAISS's number of the fast-scan kernel that takes one query after the other.

Its own choice looks up several at once. It finds the same in up to twice the time for one query,
and for many in no less.
"""
_TRAINING_ROWS = 1 << 17

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The rows of a gallery nearest to each query.

    Attributes:
        rows: ``(n, k)`` int64, nearest first; of rows exactly as near, the smaller number.
        similarities: ``(n, k)`` float32, cosine in [-1, 1], aligned with ``rows``.
    """

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]


_Found = tuple[NDArray[np.float32], NDArray[np.int64]]


class _Vectors(Protocol):
    """What is used of an index of FAISS. A search finds ``k`` rows whenever there are ``k``."""

    ntotal: int
    d: int

    def search(self, x: NDArray[np.float32], k: int) -> _Found: ...

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]: ...


class Gallery:
    """An open gallery. Safe to search from several threads.

    Attributes:
        directory: Where its files are.
        manifest: What it says of itself.
        catalog: What its rows are.
        credits: Whose picture each row is; ``None`` where it was built without.
        distractors: Pictures of no landmark, and what each row pays for its likeness to them;
            ``None`` where it was built without.
        thumbnails: A small picture of each row; likewise.
    """

    def __init__(
        self,
        directory: Path,
        manifest: GalleryManifest,
        catalog: Catalog,
        vectors: _Vectors,
        threads: int,
        removed: Collection[int] = frozenset(),
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        self.catalog = catalog
        self.distractors = (
            Distractors.open(directory, rows=manifest.rows, dimension=manifest.dimension)
            if manifest.distractors
            else None
        )
        rows = manifest.rows
        self.credits = Credits.open(directory, rows=rows) if CREDITS in manifest.files else None
        self.thumbnails = Thumbnails.open(directory, rows=rows) if manifest.thumbnail_side else None
        self._removed = removed
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
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> Gallery:
        """Open a gallery of a store.

        Args:
            store: The store.
            embedder_digest: The embedder whose vectors will be searched for; ``None`` only
                for a reader that does not search.
            build: By default the published one.
            threads: As for :meth:`open_directory`.
            device: As for :meth:`open_directory`.

        Raises:
            NoGalleryError: Nothing is published.
            ArtifactMissingError: The build, or a file of it, is not there.
            ArtifactDamagedError: A file was altered or truncated.
            ArtifactMismatchError: Another embedder made it, or its files contradict each other.
        """
        directory = Store(store).directory(build)
        return cls.open_directory(
            directory, embedder_digest=embedder_digest, threads=threads, device=device
        )

    @classmethod
    def open_directory(
        cls,
        directory: Path,
        *,
        embedder_digest: str | None,
        threads: int = 0,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> Gallery:
        """Open the gallery in ``directory``; large files are checked by size only.

        Args:
            directory: The gallery.
            embedder_digest: As for :meth:`open`.
            threads: How many cores a search may use; 0 leaves it to FAISS.
            device: ``cuda`` puts the vectors on the NVIDIA GPUs and compares all of them
                there, whatever the kind; where they do not fit, the CPU searches.

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
        check_files(directory, manifest.files, deep=False)
        vectors = _map_vectors(directory / VECTORS, manifest, device)
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
        searched = _searched(vectors, manifest, device)
        removed = _read_removed(directory, manifest)
        if len(removed):
            searched = _Live(searched, removed)
        gone = frozenset(removed.tolist())
        return cls(directory, manifest, catalog, searched, threads, gone)

    def __len__(self) -> int:
        return self.manifest.rows - self.manifest.removed

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
        return _search(self._open_vectors(), queries, k, self._threads)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of ``rows`` as they are kept, ``(n, d)``; removed ones too.

        Raises:
            ValueError: There is no such row, or the gallery is closed.
        """
        if not rows.size:
            return np.empty((0, self.manifest.dimension), np.float32)
        if not 0 <= rows.min() <= rows.max() < self.manifest.rows:
            raise ValueError(f"the gallery has rows 0 to {self.manifest.rows - 1}")
        return self._open_vectors().reconstruct_batch(np.ascontiguousarray(rows, np.int64))

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors of all rows as they are kept, block by block; removed ones too."""
        rows = np.arange(self.manifest.rows)
        for start in range(0, len(rows), _YIELDED_ROWS):
            yield self.vectors(rows[start : start + _YIELDED_ROWS])

    def thumbnail(self, picture_id: str) -> bytes | None:
        """Return a small JPEG of a picture, ``None`` where there is none to be shown.

        A removed picture is not shown, although its thumbnail stays in the file until a rebuild.
        """
        if self.thumbnails is None:
            return None
        row = self.catalog.row_of_picture(picture_id)
        if row is None or row in self._removed:
            return None
        return self.thumbnails[row]

    def read_ahead(self) -> Iterator[int]:
        """Have the system read what is mapped, which else it does page by page as it is needed.

        What it yields holds nothing of the gallery but its name.

        Yields:
            How many bytes were read, block after block.

        Raises:
            OSError: The file cannot be read, or is gone.
        """
        first, last = _copied(self.manifest, "cpu"), self.manifest.files[VECTORS].bytes
        return read_ahead(self.directory / VECTORS, first, last)

    def expect_disk(self, *, expected: bool) -> None:
        """Say whether what is mapped may still lie on the disk; at first it is believed not to.

        Where it may not, a search asks for all its candidates at once, not one after the other:
        faster while they come from the disk, a little slower when they do not. What is found is
        the same.

        Args:
            expected: Whether the disk is to be waited for.
        """
        vectors = self._open_vectors()
        looks = vectors.vectors if isinstance(vectors, _Live) else vectors
        if isinstance(looks, _TwoLooks):
            looks.from_disk = expected

    def close(self) -> None:
        """Let go of the mapped vectors; the gallery cannot be searched afterwards."""
        self._vectors = None

    def _open_vectors(self) -> _Vectors:
        if self._vectors is None:
            raise ValueError("the gallery is closed")
        return self._vectors


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


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: how many rows, and what kind of gallery they are."""

    rows: int
    kind: Kind


def write_vectors(
    path: Path,
    dimension: int,
    blocks: Iterable[NDArray[np.float32]],
    choose: Callable[[int], Kind] = lambda rows: EXACT,
) -> Written:
    """Write the vectors of a gallery.

    Args:
        path: The file to write.
        dimension: Length of a vector.
        blocks: ``(m, dimension)`` unit rows each, in the order of the catalog.
        choose: Gives the kind for a number of rows, when all of them are there.

    Raises:
        ValueError: A block is not finite.
        GalleryError: FAISS cannot make this kind of these vectors.
        OSError: The file cannot be written.
    """
    vectors: Any = faiss.IndexScalarQuantizer(
        dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    for block in blocks:
        if not np.isfinite(block).all():
            raise ValueError("a vector is not finite")
        vectors.add(np.ascontiguousarray(block, np.float32))
    written = Written(int(vectors.ntotal), choose(int(vectors.ntotal)))
    if written.kind.first_look:
        vectors = faiss.IndexRefine(_first_look(written.kind, vectors), vectors)
    with path.open("wb") as file:  # our own file: FAISS's says nothing when closing it fails
        writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined]  # not in stubs
        faiss.write_index(vectors, writer)
    return written


def _first_look(kind: Kind, vectors: _Vectors) -> Any:  # noqa: ANN401 (FAISS has no types)
    """Train the first look on a sample of all rows, and give it all of them."""
    rows = vectors.ntotal
    drawn = np.random.default_rng(0).choice(rows, min(rows, _TRAINING_ROWS), replace=False)
    try:
        first = faiss.index_factory(vectors.d, kind.first_look, faiss.METRIC_INNER_PRODUCT)
        first.train(vectors.reconstruct_batch(np.sort(drawn)))
        for start in range(0, rows, _BLOCK_ROWS):
            block = np.arange(start, min(start + _BLOCK_ROWS, rows))
            first.add(vectors.reconstruct_batch(block))
        if kind.settings:
            space: Any = faiss.ParameterSpace()
            space.set_index_parameters(first, kind.settings)
    except RuntimeError as error:
        reason = str(error).rsplit("Error: ", 1)[-1].strip()
        raise GalleryError(
            f"FAISS cannot make a gallery {kind.factory!r} of {rows} vectors: {reason}"
        ) from error
    return first


def _map_vectors(path: Path, manifest: GalleryManifest, device: str) -> _Vectors:
    try:
        for _ in read_ahead(path, 0, _copied(manifest, device)):
            pass
        vectors: _Vectors = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (OSError, RuntimeError) as error:
        if not path.is_file():
            raise ArtifactMissingError(path) from error
        reason = error.strerror if isinstance(error, OSError) else "FAISS cannot read it"
        raise ArtifactDamagedError(path, str(reason)) from error
    return vectors


def _copied(manifest: GalleryManifest, device: str) -> int:
    """Return how many bytes from the beginning of the vectors' file are copied out of it.

    To a GPU all of them are; else the codes of a fast scan, which lie before the second look.
    """
    size = manifest.files[VECTORS].bytes
    if device == "cuda":
        return size
    second_look = manifest.rows * manifest.dimension * FP16_BYTES
    return max(0, size - second_look) if manifest.kind == "fastscan" else 0


def _searched(vectors: Any, manifest: GalleryManifest, device: str) -> _Vectors:  # noqa: ANN401 (as above)
    """Choose how the mapped vectors are searched."""
    two = isinstance(vectors, faiss.IndexRefine)
    exact: _Vectors = faiss.downcast_index(vectors.refine_index) if two else vectors
    if device == "cuda":
        try:
            return _on_gpus(exact)
        except (ImportError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1]
            _log.warning("gallery %s is searched on the CPU: %s", manifest.build_id, reason)
    if two:
        first = faiss.downcast_index(vectors.base_index)
        if isinstance(first, faiss.IndexFastScan):
            first.implem = _KERNEL
            use_huge_pages(faiss.rev_swig_ptr(first.codes.get(), first.codes.size()))
        return _TwoLooks(vectors, exact, k_factor=manifest.k_factor or _K_FACTOR)
    return exact


class _TwoLooks:
    """A first look that finds candidates, and a second one at their exact similarity.

    Args:
        refined: Both looks.
        exact: The second one: compares everything where the first would not pay, or fails.
        k_factor: How many candidates there are at least.
        most: How many candidates there can be; by default a fourth of all rows.
        lock: Held during a search.

    Attributes:
        from_disk: Whether what the second look compares may have to be read first. True only on a
            CPU.
    """

    def __init__(
        self,
        refined: Any,  # noqa: ANN401 (as above)
        exact: _Vectors,
        *,
        k_factor: int,
        most: int | None = None,
        lock: contextlib.AbstractContextManager[Any] | None = None,
    ) -> None:
        self.ntotal, self.d = exact.ntotal, exact.d
        self._refined, self._exact, self._k_factor = refined, exact, k_factor
        self._most = exact.ntotal // 4 if most is None else most
        self._lock = lock or contextlib.nullcontext()
        self.from_disk = False

    def search(self, x: NDArray[np.float32], k: int) -> _Found:
        candidates = max(self._k_factor, _PER_NEIGHBOR * k)
        if candidates > self._most:
            return self._exact.search(x, k)
        if self.from_disk and len(x) * candidates <= _ASKED_ROWS:
            similarities, rows = self._refine_asked(x, k, candidates)
        else:
            similarities, rows = self._refine(x, k, candidates)
        short = np.flatnonzero(rows[:, -1] < 0)
        if short.size:
            similarities[short], rows[short] = self._exact.search(x[short], k)
        return similarities, rows

    def _refine(self, x: NDArray[np.float32], k: int, candidates: int) -> _Found:
        # FAISS multiplies and cuts off: the half keeps rounding from losing a candidate.
        factor = (candidates + 0.5) / k
        looks = faiss.IndexRefineSearchParameters(k_factor=factor)  # type: ignore[call-arg]  # stubs
        similarities = np.empty((len(x), k), np.float32)
        rows = np.empty((len(x), k), np.int64)
        for start in range(0, len(x), _BLOCK_QUERIES):  # each takes memory for all its candidates
            block = slice(start, start + _BLOCK_QUERIES)
            with self._lock:
                similarities[block], rows[block] = self._refined.search(x[block], k, params=looks)
        return similarities, rows

    def _refine_asked(self, x: NDArray[np.float32], k: int, candidates: int) -> _Found:
        """Do as FAISS does, but ask the system for all candidates between the looks.

        FAISS comes upon one after the other: of a thousand, it waited 20 ms for the disk, not 3.
        """
        exact: Any = self._exact
        _, rows = self._refined.base_index.search(x, candidates)
        codes = faiss.rev_swig_ptr(exact.codes.data(), exact.codes.size())
        ask_for(codes, rows[rows >= 0] * exact.code_size, exact.code_size)
        similarities = np.full(rows.shape, -np.inf, np.float32)
        computer = exact.get_distance_computer()  # FAISS's own, so that each digit is the same
        for query, row, similarity in zip(x, rows, similarities, strict=True):
            found = row[row >= 0].tolist()  # the first look may find fewer, and tells of them first
            computer.set_query(faiss.swig_ptr(query))
            similarity[: len(found)] = [computer(candidate) for candidate in found]
        best = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return (
            np.take_along_axis(similarities, best, axis=1),
            np.take_along_axis(rows, best, axis=1),
        )

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._exact.reconstruct_batch(key)


class _Live:
    """Vectors without the removed rows, which neither FAISS's fast scan nor its refining skips.

    Args:
        vectors: All of them.
        removed: The rows to leave out.
    """

    def __init__(self, vectors: _Vectors, removed: NDArray[np.int64]) -> None:
        self.ntotal, self.d = vectors.ntotal - len(removed), vectors.d
        self.vectors = vectors
        self._removed = np.zeros(vectors.ntotal, np.bool_)
        self._removed[removed] = True

    def search(self, x: NDArray[np.float32], k: int) -> _Found:
        return self._search(x, k, k + _SPARE)

    def _search(self, x: NDArray[np.float32], k: int, width: int) -> _Found:
        """Look at ``width`` rows, and at more where fewer than ``k`` of them are live."""
        width = min(width, self.vectors.ntotal)
        similarities, rows = self.vectors.search(x, width)
        removed = self._removed[rows]
        first = np.argsort(removed, axis=1, kind="stable")[:, :k]
        rows = np.take_along_axis(rows, first, axis=1)
        similarities = np.take_along_axis(similarities, first, axis=1)
        short = np.flatnonzero(width - removed.sum(axis=1) < k)
        if short.size:
            similarities[short], rows[short] = self._search(x[short], k, 4 * width)
        return similarities, rows

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.vectors.reconstruct_batch(key)


def _read_removed(directory: Path, manifest: GalleryManifest) -> NDArray[np.int64]:
    if not manifest.removed:
        return np.empty(0, np.int64)
    path = directory / REMOVED
    rows = read_npz(path).get("rows", np.empty(0))
    if rows.dtype != np.int64 or rows.ndim != 1 or len(rows) != manifest.removed:
        raise ArtifactDamagedError(path, f"it does not list {manifest.removed} rows")
    if len(rows) and (rows[0] < 0 or rows[-1] >= manifest.rows or (np.diff(rows) <= 0).any()):
        raise ArtifactDamagedError(path, "its rows are out of order or out of range")
    if len(rows) == manifest.rows:
        raise ArtifactDamagedError(path, "no row of the gallery is left")
    return rows


def gpu_bytes(device: Literal["cpu", "cuda"]) -> int:
    """Return how much memory of the GPUs a gallery may still take; 0 on a CPU."""
    if device == "cpu":
        return 0
    from index.search.torch_search import free_bytes

    return free_bytes()


def _on_gpus(exact: Any) -> _Vectors:  # noqa: ANN401 (as above)
    """Put the vectors on the GPUs; by FAISS where it has a GPU build, else by torch.

    Raises:
        ImportError: There is neither.
        RuntimeError: They do not fit.
    """
    if faiss.get_num_gpus():
        refined = faiss.IndexRefine(_on_faiss_gpus(exact), exact)
        return _TwoLooks(
            refined, exact, k_factor=_GPU_K_FACTOR, most=_GPU_MOST, lock=threading.Lock()
        )
    from index.search.torch_search import TorchVectors, gpus

    return TorchVectors(exact, gpus())


def _on_faiss_gpus(exact: _Vectors) -> Any:  # noqa: ANN401 (as above)
    """Copy all rows to each GPU, or a part of them to each where all are too many."""
    count = faiss.get_num_gpus()
    if count == 1:
        return _on_faiss_gpu(0, exact, 0, exact.ntotal)
    joined: Any = faiss.IndexReplicas(exact.d)
    try:
        for gpu in range(count):
            joined.addIndex(_on_faiss_gpu(gpu, exact, 0, exact.ntotal))
    except RuntimeError:
        joined = faiss.IndexShards(exact.d, True, True)  # type: ignore[call-arg]  # noqa: FBT003 (threaded, numbered on; not in stubs)
        for gpu in range(count):
            start, stop = (exact.ntotal * part // count for part in (gpu, gpu + 1))
            joined.addIndex(_on_faiss_gpu(gpu, exact, start, stop))
    return joined


def _on_faiss_gpu(gpu: int, exact: _Vectors, start: int, stop: int) -> Any:  # noqa: ANN401 (as above)
    options = faiss.GpuIndexFlatConfig()
    options.device, options.useFloat16 = gpu, True
    vectors = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), exact.d, options)
    for first in range(start, stop, _BLOCK_ROWS):
        rows = np.arange(first, min(first + _BLOCK_ROWS, stop))
        vectors.add(exact.reconstruct_batch(rows))
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
