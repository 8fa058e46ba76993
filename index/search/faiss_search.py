"""The one door to FAISS: write vectors, map them, search them on the CPU or on NVIDIA GPUs.

A file of vectors is mapped and never changed: FAISS would crash the process on an attempt. It
holds every vector in fp16; a kind with candidates (:mod:`index.search.kinds`) holds their smaller
codes before these.
"""

import contextlib
import logging
import struct
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.files import FileRecord, RecordedFile
from embedder.errors import ArtifactDamagedError, ArtifactMissingError, GalleryError
from index.progress import progress_bar
from index.search.kinds import EXACT, FP16_BYTES, Kind
from index.search.neighbors import Engine, Found, Neighbors, find_nearest, take
from index.search.paging import prefetch, read_ahead, use_huge_pages

_MIN_REFINED = 4
"""At least so many candidates are refined for each neighbor requested."""

_K_FACTOR = 1000  # for a manifest without one
_GPU_K_FACTOR, _GPU_MAX_CANDIDATES = 64, 2048  # FAISS's GPU search returns no more rows
_BLOCK_ROWS, _BLOCK_QUERIES = 1 << 15, 256
_TRAINING_ROWS = 1 << 17

_MAX_PREFETCHED = 1 << 13
"""Candidates of a batch that are prefetched; above, one Python call each would take too long."""

_ONE_QUERY_KERNEL = 15
"""FAISS's number of the fast-scan kernel that takes one query after the other.

FAISS's default looks up several at once: the same results in up to twice the time for one query,
and no faster for many.
"""

_log = logging.getLogger(__name__)


def write_vectors(
    path: Path,
    blocks: Iterable[NDArray[np.float32]],
    *,
    rows: int,
    dimension: int,
    kind: Kind = EXACT,
) -> FileRecord:
    """Write the vectors of a gallery, of which a few blocks are in memory at a time.

    For a kind with candidates, a file of the vectors alone lies beside ``path`` until its codes
    are made; the codes are in memory.

    Args:
        path: The file.
        blocks: ``(m, dimension)`` unit rows each, in the order of the catalog.
        rows: How many there are together.
        dimension: Length of a vector.
        kind: What is written.

    Returns:
        The record of the file.

    Raises:
        ValueError: A block is not finite, or there are more or fewer rows.
        GalleryError: FAISS cannot make this kind of these vectors.
    """
    if not kind.candidates:
        return _write_exact(path, blocks, rows, dimension)
    alone = path.with_name(f".{path.name}.fp16")
    try:
        _write_exact(alone, blocks, rows, dimension)
        exact: Any = faiss.read_index(str(alone), faiss.IO_FLAG_MMAP_IFC)
        refined: Any = faiss.IndexRefine(_train_candidates(kind, exact), exact)
        with RecordedFile(path) as file:  # our own file: FAISS's ignores errors on closing
            writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined]  # not in stubs
            faiss.write_index(refined, writer)
        return file.record()
    finally:
        alone.unlink(missing_ok=True)


def _write_exact(
    path: Path, blocks: Iterable[NDArray[np.float32]], rows: int, dimension: int
) -> FileRecord:
    written = 0
    with RecordedFile(path) as file:
        file.write(_exact_header(rows, dimension))
        for block in blocks:
            if not np.isfinite(block).all():
                raise ValueError("a vector is not finite")
            file.write(np.ascontiguousarray(block, "<f2").data)
            written += len(block)
    if written != rows:
        raise ValueError(f"{written} vectors were given for {rows} rows")
    return file.record()


def _exact_header(rows: int, dimension: int) -> bytes:
    """Return what FAISS writes before ``rows`` fp16 vectors.

    It is what it writes for none, but for two numbers: the rows, 8 bytes after the name of the
    format and the dimension, and the bytes of all vectors, at the end.
    """
    empty: Any = faiss.IndexScalarQuantizer(
        dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    written = faiss.serialize_index(empty).tobytes()
    counts = (struct.pack("<q", number) for number in (rows, rows * dimension * FP16_BYTES))
    return written[:8] + next(counts) + written[16:-8] + next(counts)


def _train_candidates(kind: Kind, vectors: Engine) -> Any:  # noqa: ANN401 (FAISS has no types)
    """Train the index of candidates on a sample of the rows, and add all of them."""
    rows = vectors.ntotal
    sample = np.random.default_rng(0).choice(rows, min(rows, _TRAINING_ROWS), replace=False)
    try:
        index = faiss.index_factory(vectors.d, kind.candidates, faiss.METRIC_INNER_PRODUCT)
        with progress_bar(rows, what=f"train and write {kind.candidates}") as bar:
            index.train(vectors.reconstruct_batch(np.sort(sample)))
            for block in _row_blocks(0, rows):
                index.add(vectors.reconstruct_batch(block))
                bar.update(len(block))
        if kind.parameters:
            space: Any = faiss.ParameterSpace()
            space.set_index_parameters(index, kind.parameters)
    except RuntimeError as error:
        reason = str(error).rsplit("Error: ", 1)[-1].strip()
        raise GalleryError(
            f"FAISS cannot make a gallery {kind.factory!r} of {rows} vectors: {reason}"
        ) from error
    return index


def _row_blocks(first: int, last: int) -> Iterator[NDArray[np.int64]]:
    for start in range(first, last, _BLOCK_ROWS):
        yield np.arange(start, min(start + _BLOCK_ROWS, last))


def nearest(gallery: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> Neighbors:
    """Find the ``k`` rows of an array nearest to each query, exactly, in float32.

    Args:
        gallery: ``(m, d)`` unit rows.
        queries: ``(n, d)`` unit rows.
        k: At least 1; more than there are rows finds all of them.

    Raises:
        ValueError: As for :func:`index.search.neighbors.find_nearest`, or ``gallery`` is empty
            or not finite.

    >>> nearest(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[1:], 1).rows.tolist()
    [[1], [2]]
    """
    if gallery.ndim != 2 or not gallery.size or not np.isfinite(gallery).all():
        raise ValueError(f"a gallery needs finite rows, not an array of shape {gallery.shape}")
    vectors = faiss.IndexFlatIP(gallery.shape[1])
    vectors.add(np.ascontiguousarray(gallery, np.float32))
    return find_nearest(vectors, queries, k)


def limit_threads(threads: int) -> None:
    """Set how many cores a search of the calling thread (OpenMP) may use; 0 changes nothing."""
    if threads:
        faiss.omp_set_num_threads(threads)


def open_vectors(
    path: Path,
    *,
    copied_bytes: int,
    k_factor: int | None,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Engine:
    """Map a file of vectors and choose how it is searched.

    Args:
        path: Written by :func:`write_vectors`.
        copied_bytes: How much of the file's beginning opening copies; it is read ahead.
        k_factor: How many candidates are refined at least.
        device: ``cuda`` compares all vectors on the GPUs; where they do not fit, the CPU
            searches.

    Raises:
        ArtifactMissingError: The file does not exist.
        ArtifactDamagedError: It cannot be read, or not by FAISS.
    """
    try:
        for _ in read_ahead(path, 0, copied_bytes):
            pass
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (OSError, RuntimeError) as error:
        if not path.is_file():
            raise ArtifactMissingError(path) from error
        reason = error.strerror if isinstance(error, OSError) else "FAISS cannot read it"
        raise ArtifactDamagedError(path, str(reason)) from error
    refined = isinstance(index, faiss.IndexRefine)
    exact: Engine = faiss.downcast_index(index.refine_index) if refined else index
    if device == "cuda":
        try:
            return _on_gpus(exact)
        except (ImportError, RuntimeError) as error:
            named = path.parent.name
            _log.warning("gallery %s is searched on the CPU: %s", named, _last_line(error))
    if not refined:
        return exact
    candidates = faiss.downcast_index(index.base_index)
    if isinstance(candidates, faiss.IndexFastScan):
        candidates.implem = _ONE_QUERY_KERNEL
        use_huge_pages(faiss.rev_swig_ptr(candidates.codes.get(), candidates.codes.size()))
    return RefinedEngine(index, exact, k_factor=k_factor or _K_FACTOR)


class RefinedEngine:
    """Finds candidates by small codes and refines them: compares them again by exact similarity.

    Args:
        index: A FAISS ``IndexRefine``.
        exact: Its refining index; searched alone where candidates are too many or too few.
        k_factor: How many candidates there are at least.
        max_candidates: By default a quarter of all rows.
        lock: Held during a search.

    Attributes:
        exact: The refining index.
        k_factor: How many candidates there are at least.
        prefetches: Whether candidates are prefetched, for vectors that may still lie on disk: a
            little slower for vectors in memory, with the same result. On a CPU only.
    """

    def __init__(
        self,
        index: Any,  # noqa: ANN401 (as above)
        exact: Engine,
        *,
        k_factor: int,
        max_candidates: int | None = None,
        lock: contextlib.AbstractContextManager[Any] | None = None,
    ) -> None:
        self.ntotal, self.d = exact.ntotal, exact.d
        self._index, self.exact, self.k_factor = index, exact, k_factor
        self._max_candidates = exact.ntotal // 4 if max_candidates is None else max_candidates
        self._lock = lock or contextlib.nullcontext()
        self.prefetches = False

    def search(self, x: NDArray[np.float32], k: int) -> Found:
        """Find the ``k`` nearest of the candidates of each query."""
        candidates = max(self.k_factor, _MIN_REFINED * k)
        if candidates > self._max_candidates:
            return self.exact.search(x, k)
        if self.prefetches and len(x) * candidates <= _MAX_PREFETCHED:
            similarities, rows = self._refine_prefetched(x, k, candidates)
        else:
            similarities, rows = self._refine(x, k, candidates)
        short = np.flatnonzero(rows[:, -1] < 0)
        if short.size:
            similarities[short], rows[short] = self.exact.search(x[short], k)
        return similarities, rows

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of the rows ``key``."""
        return self.exact.reconstruct_batch(key)

    def _refine(self, x: NDArray[np.float32], k: int, candidates: int) -> Found:
        # FAISS multiplies and truncates: the half keeps rounding from losing a candidate.
        factor = (candidates + 0.5) / k
        options = faiss.IndexRefineSearchParameters(k_factor=factor)  # type: ignore[call-arg]  # stubs
        similarities = np.empty((len(x), k), np.float32)
        rows = np.empty((len(x), k), np.int64)
        for start in range(0, len(x), _BLOCK_QUERIES):  # FAISS allocates all candidates of a call
            block = slice(start, start + _BLOCK_QUERIES)
            with self._lock:
                similarities[block], rows[block] = self._index.search(x[block], k, params=options)
        return similarities, rows

    def _refine_prefetched(self, x: NDArray[np.float32], k: int, candidates: int) -> Found:
        """Refine as FAISS does, but prefetch all candidates first.

        FAISS faults in one after the other: a thousand took 20 ms from disk instead of 3.
        """
        exact: Any = self.exact
        _, rows = self._index.base_index.search(x, candidates)
        codes = faiss.rev_swig_ptr(exact.codes.data(), exact.codes.size())
        prefetch(codes, rows[rows >= 0] * exact.code_size, exact.code_size)
        similarities = np.full(rows.shape, -np.inf, np.float32)
        computer = exact.get_distance_computer()  # FAISS's own, for the same digits
        for query, row, similarity in zip(x, rows, similarities, strict=True):
            found = row[row >= 0].tolist()  # missing candidates are -1, at the end
            computer.set_query(faiss.swig_ptr(query))
            similarity[: len(found)] = [computer(candidate) for candidate in found]
        return take((similarities, rows), np.argsort(-similarities, axis=1, kind="stable")[:, :k])


class SelectedRows:
    """Some rows of an engine, each of which is compared exactly.

    Its results are those of an exact engine that holds only these rows, in the numbers of the
    whole. Other rows cost a look at one bit each: 4 ms for a query of 1.58 million rows.

    Args:
        engine: From :func:`open_vectors`; on a GPU too, the CPU searches.
        rows: ``(m,)`` ascending, at least one.
    """

    def __init__(self, engine: Engine, rows: NDArray[np.int64]) -> None:
        self._exact: Any = getattr(engine, "exact", engine)
        self.ntotal, self.d = len(rows), engine.d
        selected = np.zeros(engine.ntotal, np.bool_)
        selected[rows] = True
        self._bits = np.packbits(selected, bitorder="little")  # FAISS keeps only its address

    def search(self, x: NDArray[np.float32], k: int) -> Found:
        """Find the ``k`` nearest of the rows."""
        selector = faiss.IDSelectorBitmap(len(self._bits) * 8, faiss.swig_ptr(self._bits))
        options = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]  # not in stubs
        found: Found = self._exact.search(x, k, params=options)
        return found

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of the rows ``key``."""
        vectors: NDArray[np.float32] = self._exact.reconstruct_batch(key)
        return vectors


def gpu_bytes(device: Literal["cpu", "cuda"]) -> int:
    """Return the free memory of the GPUs; 0 on a CPU."""
    if device == "cpu":
        return 0
    from index.search.torch_search import free_bytes

    return free_bytes()


def _on_gpus(exact: Any) -> Engine:  # noqa: ANN401 (as above)
    """Put the vectors on the GPUs, by FAISS where it has a GPU build that works, else by torch."""
    if faiss.get_num_gpus():
        try:
            candidates = _on_faiss_gpus(exact)
        except RuntimeError as error:  # for one, it was compiled for other GPUs
            _log.warning("FAISS cannot use the GPUs, torch shall: %s", _last_line(error))
        else:
            return RefinedEngine(
                faiss.IndexRefine(candidates, exact),
                exact,
                k_factor=_GPU_K_FACTOR,
                max_candidates=_GPU_MAX_CANDIDATES,
                lock=threading.Lock(),
            )
    from index.search.torch_search import TorchEngine, gpus

    return TorchEngine(exact, gpus())


def _on_faiss_gpus(exact: Engine) -> Any:  # noqa: ANN401 (as above)
    """Copy all rows to each GPU, or an equal part to each where all are too many."""
    count, total = faiss.get_num_gpus(), exact.ntotal
    try:
        copies = [_on_faiss_gpu(gpu, exact, 0, total) for gpu in range(count)]
    except RuntimeError:
        if count == 1:
            raise
    else:
        if count == 1:
            return copies[0]
        replicas: Any = faiss.IndexReplicas(exact.d)
        for copy in copies:
            replicas.addIndex(copy)
        return replicas
    # Not in the except block, whose traceback would hold the copies that are too large.
    shards: Any = faiss.IndexShards(exact.d, True, True)  # type: ignore[call-arg]  # noqa: FBT003 (threaded, successive ids; not in stubs)
    for gpu in range(count):
        first, last = (total * part // count for part in (gpu, gpu + 1))
        shards.add_shard(_on_faiss_gpu(gpu, exact, first, last))  # addIndex would let it be freed
    return shards


def _on_faiss_gpu(gpu: int, exact: Engine, first: int, last: int) -> Any:  # noqa: ANN401 (as above)
    options = faiss.GpuIndexFlatConfig()
    options.device, options.useFloat16 = gpu, True
    vectors = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), exact.d, options)
    for block in _row_blocks(first, last):
        vectors.add(exact.reconstruct_batch(block))
    return vectors


def _last_line(error: Exception) -> str:
    """Return the last line of an error, where FAISS says what happened."""
    return str(error).strip().rsplit("\n", 1)[-1]
