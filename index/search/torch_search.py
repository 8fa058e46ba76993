"""Search on NVIDIA GPUs by torch, for where FAISS has no GPU build or cannot share the process.

Loaded only for an NVIDIA device, so that a service on a CPU never imports torch. The GPU compares
every vector; the few best are compared once more on the host, in the arithmetic that does not
depend on where a row stands, so that equal rows are exactly equal.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

_BLOCK_ROWS, _BLOCK_QUERIES = 1 << 17, 256
_LOOKED_AT, _PER_NEIGHBOR = 64, 4


class Rows(Protocol):
    """Vectors on the host, by row number."""

    ntotal: int
    d: int

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of the rows ``key``."""


def gpus() -> list[torch.device]:
    """Return every NVIDIA GPU.

    Raises:
        RuntimeError: There is none.
    """
    found = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    if not found:
        raise RuntimeError("torch finds no NVIDIA GPU")
    return found


def free_bytes() -> int:
    """Return the free memory of all GPUs together."""
    return sum(torch.cuda.mem_get_info(device)[0] for device in gpus())


class TorchVectors:
    """The vectors of a gallery in fp16, spread over devices. Searched one at a time.

    Args:
        rows: Where they come from; asked again for the best rows of each search.
        devices: Where they go, a like part to each.

    Raises:
        RuntimeError: They do not fit.
    """

    def __init__(self, rows: Rows, devices: Sequence[torch.device]) -> None:
        self.ntotal, self.d = rows.ntotal, rows.d
        self._rows = rows
        self._lock = threading.Lock()
        self._blocks: list[tuple[int, torch.Tensor]] = []
        for number, start in enumerate(range(0, rows.ntotal, _BLOCK_ROWS)):
            block = np.arange(start, min(start + _BLOCK_ROWS, rows.ntotal))
            kept = torch.from_numpy(rows.reconstruct_batch(block)).half()
            self._blocks.append((start, kept.to(devices[number % len(devices)])))

    def search(
        self, x: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the ``k`` nearest rows of each query, as an index of FAISS does.

        Args:
            x: ``(n, d)`` unit rows.
            k: At most as many as there are rows.

        Returns:
            Similarities and rows, both ``(n, k)``, nearest first; of rows exactly as near, the
            smaller number first.
        """
        similarities = np.empty((len(x), k), np.float32)
        rows = np.empty((len(x), k), np.int64)
        width = min(max(_LOOKED_AT, _PER_NEIGHBOR * k), self.ntotal)
        for start in range(0, len(x), _BLOCK_QUERIES):
            block = slice(start, start + _BLOCK_QUERIES)
            with self._lock:
                candidates = self._candidates(torch.from_numpy(x[block]), width)
            similarities[block], rows[block] = self._second_look(x[block], candidates, k)
        return similarities, rows

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of the rows ``key``."""
        return self._rows.reconstruct_batch(key)

    @torch.inference_mode()
    def _candidates(self, queries: torch.Tensor, width: int) -> NDArray[np.int64]:
        """Find the ``width`` best rows of each query by a matrix product in float32."""
        found = []
        for start, kept in self._blocks:
            similarities = queries.to(kept.device) @ kept.float().T
            best = similarities.topk(min(width, len(kept)), dim=1)
            found.append((best.values, best.indices + start))
        values = torch.cat([values.cpu() for values, _ in found], dim=1)
        rows = torch.cat([rows.cpu() for _, rows in found], dim=1)
        first = values.topk(width, dim=1).indices
        candidates: NDArray[np.int64] = rows.gather(1, first).numpy()
        return candidates

    def _second_look(
        self, queries: NDArray[np.float32], candidates: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        n, width = candidates.shape
        vectors = self._rows.reconstruct_batch(candidates.reshape(-1)).reshape(n, width, self.d)
        similarities: NDArray[np.float32] = np.einsum("nd,nwd->nw", queries, vectors)
        order = np.lexsort((candidates, -similarities))[:, :k]
        return (
            np.take_along_axis(similarities, order, axis=1),
            np.take_along_axis(candidates, order, axis=1),
        )
