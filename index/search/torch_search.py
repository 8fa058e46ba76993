"""Search on NVIDIA GPUs by torch, where FAISS has no GPU build.

Loaded only for an NVIDIA device, so that a service on a CPU never imports torch. The GPU compares
every vector to find candidates; the host refines them in arithmetic that does not depend on a
row's position, so that equal rows have equal similarities.
"""

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from index.search.neighbors import Engine, Found, take

_BLOCK_ROWS, _BLOCK_QUERIES = 1 << 17, 256
_MIN_CANDIDATES, _MIN_REFINED, _MAX_CANDIDATES = 64, 4, 1 << 14
_REFINED_NUMBERS = 1 << 24
"""Numbers of the candidates' vectors that are in memory at once: 64 MB."""


def gpus() -> list[torch.device]:
    """Return every NVIDIA GPU; ``RuntimeError`` where there is none."""
    found = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    if not found:
        raise RuntimeError("torch finds no NVIDIA GPU")
    return found


def free_bytes() -> int:
    """Return the free memory of all GPUs together."""
    return sum(torch.cuda.mem_get_info(device)[0] for device in gpus())


class TorchEngine:
    """The vectors of a gallery in fp16, spread evenly over devices. One search at a time.

    The vectors on the host refine the candidates of each search, and are searched alone where
    these are too many. ``RuntimeError`` where the devices have too little memory.

    Attributes:
        exact: The vectors on the host.
    """

    def __init__(self, vectors: Engine, devices: Sequence[torch.device]) -> None:
        self.ntotal, self.d = vectors.ntotal, vectors.d
        self.exact = vectors
        self._lock = threading.Lock()
        self._blocks: list[tuple[int, torch.Tensor]] = []
        for number, start in enumerate(range(0, self.ntotal, _BLOCK_ROWS)):
            rows = np.arange(start, min(start + _BLOCK_ROWS, self.ntotal))
            block = torch.from_numpy(vectors.reconstruct_batch(rows)).half()
            self._blocks.append((start, block.to(devices[number % len(devices)])))

    def search(self, x: NDArray[np.float32], k: int) -> Found:
        """Find the ``k`` nearest rows of each query; of equally near ones the smaller row first."""
        width = min(max(_MIN_CANDIDATES, _MIN_REFINED * k), self.ntotal)
        if width > _MAX_CANDIDATES:
            return self.exact.search(x, k)
        similarities = np.empty((len(x), k), np.float32)
        rows = np.empty((len(x), k), np.int64)
        for start in range(0, len(x), _BLOCK_QUERIES):
            block = slice(start, start + _BLOCK_QUERIES)
            with self._lock:
                candidates = self._candidates(torch.from_numpy(x[block]), width)
            similarities[block], rows[block] = self._refine(x[block], candidates, k)
        return similarities, rows

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of the rows ``key``."""
        return self.exact.reconstruct_batch(key)

    @torch.inference_mode()
    def _candidates(self, queries: torch.Tensor, width: int) -> NDArray[np.int64]:
        """Find the ``width`` best rows of each query by a matrix product in float32."""
        found = []
        for start, block in self._blocks:
            similarities = queries.to(block.device) @ block.float().T
            best = similarities.topk(min(width, len(block)), dim=1)
            found.append((best.values, best.indices + start))
        values = torch.cat([values.cpu() for values, _ in found], dim=1)
        rows = torch.cat([rows.cpu() for _, rows in found], dim=1)
        first = values.topk(width, dim=1).indices
        candidates: NDArray[np.int64] = rows.gather(1, first).numpy()
        return candidates

    def _refine(self, queries: NDArray[np.float32], candidates: NDArray[np.int64], k: int) -> Found:
        n, width = candidates.shape
        similarities = np.empty((n, width), np.float32)
        size = max(1, _REFINED_NUMBERS // (width * self.d))
        for begin in range(0, n, size):
            part = slice(begin, begin + size)
            vectors = self.exact.reconstruct_batch(candidates[part].reshape(-1))
            vectors = vectors.reshape(-1, width, self.d)
            similarities[part] = np.einsum("nd,nwd->nw", queries[part], vectors)
        order = np.lexsort((candidates, -similarities))[:, :k]
        return take((similarities, candidates), order)
