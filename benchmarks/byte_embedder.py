"""Vectors without a network: drawn from a seed, and for pictures of a few bytes from these.

Only numpy is imported, so that code of earlier releases can use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Self

import numpy as np
from numpy.typing import NDArray

DIMENSION = 512


class ByteEmbedder:
    """Embeds files whose text is a landmark and a number."""

    limits, dimension = SimpleNamespace(max_bytes=1 << 20, max_pixels=1), DIMENSION

    def within(self, limits: object) -> Self:
        """Take pictures of any size."""
        return self

    def prepare(self, data: bytes) -> tuple[NDArray[np.float32], ...]:
        """Turn a file into what is embedded."""
        landmark, number = (int(word) for word in data.split())
        return (draw(landmark, 1, number)[0],)

    def embed(self, prepared: Sequence[tuple[NDArray[np.float32], ...]]) -> NDArray[np.float32]:
        """Return unit rows."""
        return np.stack([row for (row,) in prepared])


def draw(landmark: int, count: int, seed: int) -> NDArray[np.float32]:
    """Draw unit rows of a landmark."""
    center = np.random.default_rng((1, landmark)).standard_normal(DIMENSION, np.float32)
    own = np.random.default_rng((2, landmark, seed))
    rows: NDArray[np.float32] = center + own.standard_normal((count, DIMENSION), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
