"""Distractors: pictures of no landmark, from which the penalties of a ranking are computed.

Without such pictures, the centers of the gallery's own landmarks can take their place: a query
shows at most a few of them. Two npy files, both mapped: the vectors of the distractors, and, in
each segment, the penalty B of its rows: their mean cosine to the distractors nearest to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedder.errors import ArtifactDamagedError, ArtifactMissingError
from index.ranking.ranking import mean_of_largest

DISTRACTORS = "distractors.npy"
PENALTIES = "penalties.npy"

OWN: Final = "gallery"
"""Given in place of a folder: the centers of the gallery's own landmarks."""

_COSINES = 1 << 24
"""Cosines that are compared at once: 64 MB."""

MOST_LANDMARKS = 1000
"""A gallery of more landmarks uses the centers of so many, drawn at random."""


@dataclass(frozen=True, slots=True)
class Distractors:
    """The distractors of an open gallery.

    Attributes:
        vectors: ``(m, d)`` float32 unit rows.
        penalties: ``(rows,)`` float32, the penalty B of each gallery row, of strength 1.
        smallest: The smallest of the penalties.
    """

    vectors: NDArray[np.float32]
    penalties: NDArray[np.float32]
    smallest: float

    @classmethod
    def open(cls, segments: Mapping[Path, int], *, dimension: int) -> Distractors:
        """Map the distractors of a gallery: its segments' folders with their rows.

        Raises:
            ArtifactError: A file does not exist or fit the gallery.
        """
        path = next(iter(segments)) / DISTRACTORS
        vectors = _map(path, ndim=2)
        if vectors.shape[1] != dimension or not len(vectors):
            raise ArtifactDamagedError(path, f"no rows of {dimension} numbers")
        first, *more = (_map_penalties(*segment) for segment in segments.items())
        penalties = np.concatenate([first, *more]) if more else first
        return cls(vectors, penalties, float(penalties.min()))

    def of_queries(self, queries: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """Return the penalty C, of strength 1, of each query: the mean of ``count`` cosines."""
        return mean_cosines(queries, self.vectors, count)


def penalties(
    blocks: Iterable[NDArray[np.float32]], distractors: NDArray[np.float32], count: int
) -> NDArray[np.float32]:
    """Return the penalty B, of strength 1, of each row of a gallery given in ``(b, d)`` blocks."""
    return np.concatenate([mean_cosines(block, distractors, count) for block in blocks])


def mean_cosines(
    vectors: NDArray[np.float32], distractors: NDArray[np.float32], count: int
) -> NDArray[np.float32]:
    """Return the mean of the ``count`` largest cosines of each vector to the distractors.

    At most :data:`_COSINES` of them are in memory at a time.
    """
    means, size = np.empty(len(vectors), np.float32), max(1, _COSINES // len(distractors))
    for begin in range(0, len(vectors), size):
        part = slice(begin, begin + size)
        means[part] = mean_of_largest(vectors[part] @ distractors.T, count)
    return means


def write_array(path: Path, array: NDArray[np.float32]) -> None:
    """Write a file that :meth:`Distractors.open` maps."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _map_penalties(directory: Path, rows: int) -> NDArray[np.float32]:
    path = directory / PENALTIES
    found = _map(path, ndim=1)
    if len(found) != rows:
        raise ArtifactDamagedError(path, f"{len(found)} penalties for {rows} rows")
    return found


def _map(path: Path, *, ndim: int) -> NDArray[np.float32]:
    try:
        array: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise ArtifactMissingError(path) from error
    except (OSError, ValueError) as error:
        raise ArtifactDamagedError(path, "it is not an array of numpy") from error
    if array.dtype != np.float32 or array.ndim != ndim:
        raise ArtifactDamagedError(path, f"it holds {array.dtype} of {array.ndim} dimensions")
    return array
