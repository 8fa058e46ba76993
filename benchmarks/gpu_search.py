"""Exact search on a GPU through FAISS and through torch: right answers, and how fast they come."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from load import tell
from numpy.typing import NDArray

from index.search.engines import RefinedEngine
from index.search.faiss_search import open_vectors, write_vectors
from index.search.neighbors import Engine, find_nearest
from index.search.torch_search import TorchEngine, gpus

_BLOCK_ROWS, _QUERIES, _BATCH, _NEIGHBORS, _ROUNDS = 1 << 16, 256, 64, 10, 20
_SAME = 1e-4
"""Rows are compared by their cosines, which fp16 rounds."""


def faiss_has_gpus() -> bool:
    """Tell whether the FAISS that is installed was built for GPUs and finds one."""
    return bool(faiss.get_num_gpus())


def compare(folder: Path, rows: int, dimension: int, device: str) -> dict[str, Any]:
    """Write so many vectors, search them through each engine, and compare with all cosines.

    Args:
        folder: For the file of vectors, which is deleted again.
        rows: How many there are.
        dimension: Of a vector.
        device: ``cuda``; ``cpu`` proves this where there is no GPU, with FAISS's own search.

    Returns:
        Of each engine the milliseconds of one query and of a batch, the seconds to put the rows
        where they are searched, and the share of queries whose nearest row is right.
    """
    path = folder / f"vectors-{rows}"
    tell(f"write {rows} vectors")
    write_vectors(path, _blocks(rows, dimension, device), rows=rows, dimension=dimension)
    queries = _queries(rows, dimension, device)
    best = _best_cosines(rows, queries, device)
    found: dict[str, Any] = {}
    try:
        for name in ("faiss", "torch"):
            started = time.monotonic()
            engine = _open(name, path, device)
            if engine is None:
                found[name] = None
                continue
            opened = time.monotonic() - started
            found[name] = {"open_s": round(opened, 2), **_measure(engine, queries, best)}
            tell(f"{rows} rows through {name}: {found[name]}")
            del engine
    finally:
        path.unlink()
    return found


def _open(name: str, path: Path, device: str) -> Engine | None:
    """Open vectors; ``None`` where FAISS has no GPUs."""
    exact = open_vectors(path, k_factor=None)
    if name == "torch":
        return TorchEngine(exact, gpus() if device == "cuda" else [torch.device("cpu")])
    if device == "cpu":
        return exact
    engine = open_vectors(path, k_factor=None, device="cuda")
    return engine if faiss_has_gpus() and isinstance(engine, RefinedEngine) else None


def _measure(
    engine: Engine, queries: NDArray[np.float32], best: NDArray[np.float32]
) -> dict[str, float]:
    found = find_nearest(engine, queries, _NEIGHBORS)
    return {
        "right": float(np.mean(np.abs(found.similarities[:, 0] - best) < _SAME)),
        "one_ms": round(_milliseconds(engine, queries[:1]), 3),
        "batch_ms": round(_milliseconds(engine, queries[:_BATCH]), 3),
    }


def _milliseconds(engine: Engine, queries: NDArray[np.float32]) -> float:
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        find_nearest(engine, queries, _NEIGHBORS)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def _blocks(rows: int, dimension: int, device: str) -> Iterator[NDArray[np.float32]]:
    for block in _tensors(rows, dimension, device):
        yield block.cpu().numpy()


def _tensors(rows: int, dimension: int, device: str) -> Iterator[torch.Tensor]:
    """Draw unit rows, the same at each call."""
    rng = torch.Generator(device).manual_seed(0)
    for start in range(0, rows, _BLOCK_ROWS):
        count = min(_BLOCK_ROWS, rows - start)
        drawn = torch.randn(count, dimension, device=device, generator=rng)
        yield torch.nn.functional.normalize(drawn)


def _queries(rows: int, dimension: int, device: str) -> NDArray[np.float32]:
    """Draw queries, each near one of the first rows."""
    first = next(_tensors(rows, dimension, device))[:_QUERIES].cpu()
    noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(1))
    near: NDArray[np.float32] = torch.nn.functional.normalize(first + 0.03 * noise).numpy()
    return near


def _best_cosines(rows: int, queries: NDArray[np.float32], device: str) -> NDArray[np.float32]:
    """Compare every query with every row as it is stored, in float32."""
    asked = torch.from_numpy(queries).to(device)
    best = torch.full((len(queries),), -1.0, device=device)
    for block in _tensors(rows, queries.shape[1], device):
        best = torch.maximum(best, (asked @ block.half().float().T).amax(dim=1))
    highest: NDArray[np.float32] = best.cpu().numpy()
    return highest
