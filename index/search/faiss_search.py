"""The one door to FAISS: write vectors, map them, search them on the CPU or on NVIDIA GPUs.

A file of vectors is mapped and never changed: FAISS would crash the process on an attempt. It
holds every vector in fp16; a kind with candidates (:mod:`index.search.kinds`) holds their smaller
codes before these.
"""

import logging
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.files import FileRecord, RecordedFile
from embedder.errors import ArtifactDamagedError, ArtifactMissingError, GalleryError
from index.progress import progress_bar
from index.search.engines import ExactRows, RefinedEngine, empty_vectors
from index.search.kinds import EXACT, FP16_BYTES, Kind
from index.search.neighbors import Engine, Neighbors, find_nearest
from index.search.paging import read_ahead, use_huge_pages

_K_FACTOR = 1000  # for a manifest without one
_GPU_K_FACTOR, _GPU_MAX_CANDIDATES = 64, 2048  # FAISS's GPU search returns no more rows
_BLOCK_ROWS = 1 << 15
_TRAINING_ROWS = 1 << 17

_ONE_QUERY_KERNEL = 15
"""FAISS's number of the fast-scan kernel that takes one query after the other.

FAISS's default looks up several at once: the same results in up to twice the time for one query,
and no faster for many.
"""

_REFINE_HEADER_BYTES = 37
"""What FAISS writes of an ``IndexRefine`` before its candidates."""

_log = logging.getLogger(__name__)


def write_vectors(
    path: Path,
    blocks: Iterable[NDArray[np.float32]],
    *,
    rows: int,
    dimension: int,
    kind: Kind = EXACT,
    codes_of: Path | None = None,
) -> FileRecord:
    """Write the vectors of a segment, of which a few blocks are in memory at a time.

    For a kind with candidates, a file of the vectors alone lies beside ``path`` until its codes
    are made; the codes are in memory.

    Args:
        path: The file.
        blocks: ``(m, dimension)`` unit rows each, in the order of the catalog.
        rows: How many there are together.
        dimension: Length of a vector.
        kind: What is written.
        codes_of: A file of this kind whose trained codes are used; by default they are trained
            on these vectors.

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
        refined: Any = faiss.IndexRefine(_make_candidates(kind, exact, codes_of), exact)
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
    written = faiss.serialize_index(empty_vectors(dimension)).tobytes()
    counts = (struct.pack("<q", number) for number in (rows, rows * dimension * FP16_BYTES))
    return written[:8] + next(counts) + written[16:-8] + next(counts)


def _make_candidates(kind: Kind, vectors: Engine, codes_of: Path | None) -> Any:  # noqa: ANN401 (FAISS has no types)
    """Make the index of candidates of all rows."""
    rows = vectors.ntotal
    try:
        with progress_bar(rows, what=f"make {kind.candidates}") as bar:
            index = _train(kind, vectors) if codes_of is None else _read_empty(codes_of)
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


def _train(kind: Kind, vectors: Engine) -> Any:  # noqa: ANN401 (as above)
    """Train an index of candidates on a sample of the rows."""
    rows = vectors.ntotal
    sample = np.random.default_rng(0).choice(rows, min(rows, _TRAINING_ROWS), replace=False)
    index = faiss.index_factory(vectors.d, kind.candidates, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors.reconstruct_batch(np.sort(sample)))
    return index


def _read_empty(path: Path) -> Any:  # noqa: ANN401 (as above)
    """Read the trained index of candidates of a file, without its rows and without its vectors."""
    with path.open("rb") as file:
        file.seek(_REFINE_HEADER_BYTES)
        reader = faiss.PyCallbackIOReader(file.read)  # type: ignore[attr-defined]  # not in stubs
        index: Any = faiss.read_index(reader)
    index.reset()
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
    *segments: Path,
    copied_bytes: Sequence[int] = (),
    k_factor: int | None,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Engine:
    """Map files of vectors and choose how they are searched.

    Args:
        *segments: Written by :func:`write_vectors`, with the codes of the first one; a row's
            number is its place in all of them, one behind the other.
        copied_bytes: How much of the beginning of each opening copies; it is read ahead.
        k_factor: How many candidates are refined at least.
        device: ``cuda`` compares all vectors on the GPUs; where they do not fit, the CPU
            searches.

    Raises:
        ArtifactMissingError: A file does not exist.
        ArtifactDamagedError: It cannot be read, or not by FAISS, or does not belong to the first.
    """
    read = [*copied_bytes, *(0 for _ in segments[len(copied_bytes) :])]
    opened = [_map(path, size) for path, size in zip(segments, read, strict=True)]
    shapes = {(vectors.d, codes is None) for codes, vectors in opened}
    if len(shapes) > 1:
        raise ArtifactDamagedError(segments[-1], "its vectors are not those of a segment")
    exact = ExactRows([vectors for _, vectors in opened])
    if device == "cuda":
        try:
            return _on_gpus(exact)
        except (ImportError, RuntimeError) as error:
            named = segments[0].parent.name
            _log.warning("gallery %s is searched on the CPU: %s", named, _last_line(error))
    candidates = [codes for codes, _ in opened if codes is not None]
    if not candidates:
        return exact
    return RefinedEngine(_join(candidates), exact, k_factor=k_factor or _K_FACTOR)


def _map(path: Path, copied_bytes: int) -> tuple[Any, Any]:
    """Map a file; return the index of its codes, or ``None``, and that of its vectors."""
    try:
        for _ in read_ahead(path, 0, copied_bytes):
            pass
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (OSError, RuntimeError) as error:
        if not path.is_file():
            raise ArtifactMissingError(path) from error
        reason = error.strerror if isinstance(error, OSError) else "FAISS cannot read it"
        raise ArtifactDamagedError(path, str(reason)) from error
    if not isinstance(index, faiss.IndexRefine):
        return None, index
    codes: Any = faiss.downcast_index(index.base_index)
    vectors: Any = faiss.downcast_index(index.refine_index)
    codes.referenced_objects = vectors.referenced_objects = [index]  # it would free them
    return codes, vectors


def _join(segments: Sequence[Any]) -> Any:  # noqa: ANN401 (as above)
    """Search the codes of several segments as one: the same codes, so their distances compare.

    Those of a fast scan, which opening has copied, become one array: each array that is searched
    takes a tenth of a millisecond. That costs 4 ms for a thousand rows.
    """
    first, *others = segments
    if isinstance(first, faiss.IndexFastScan):
        joined: Any = first
        for segment in others:
            joined.merge_from(segment, 0)
        joined.implem = _ONE_QUERY_KERNEL
        use_huge_pages(faiss.rev_swig_ptr(joined.codes.get(), joined.codes.size()))
        return joined
    if not others:
        return first
    joined = faiss.IndexShards(first.d, False, True)  # type: ignore[call-arg]  # noqa: FBT003 (no threads, successive ids; not in stubs)
    for segment in segments:
        joined.add_shard(segment)  # addIndex would let it be freed
    return joined


def gpu_bytes(device: Literal["cpu", "cuda"]) -> int:
    """Return the free memory of the GPUs; 0 on a CPU."""
    if device == "cpu":
        return 0
    from index.search.torch_search import free_bytes

    return free_bytes()


def _on_gpus(exact: ExactRows) -> Engine:
    """Put the vectors on the GPUs, by FAISS where it has a GPU build that works, else by torch."""
    if faiss.get_num_gpus():
        try:
            candidates = _on_faiss_gpus(exact)
        except RuntimeError as error:  # for one, it was compiled for other GPUs
            _log.warning("FAISS cannot use the GPUs, torch shall: %s", _last_line(error))
        else:
            return RefinedEngine(
                candidates,
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
