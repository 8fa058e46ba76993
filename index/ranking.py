"""From the neighbors of a query to an answer; pure, and knowing nothing of FAISS or files.

Landmarks are the codes of the catalog, whose order is that of the landmark ids: a smaller
code is a smaller id.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ranked:
    """A landmark and how strongly it is meant.

    Attributes:
        landmark: Its code in the catalog.
        score: Larger is surer.
    """

    landmark: int
    score: float


def top1(landmarks: NDArray[np.integer], similarities: NDArray[np.float32]) -> Ranked:
    """Take the landmark of the nearest neighbor, with its cosine as the score.

    Args:
        landmarks: ``(k,)``, the landmark of each neighbor, nearest first.
        similarities: ``(k,)``, cosine in ``[-1, 1]``, aligned with ``landmarks``.

    Raises:
        ValueError: The two arrays differ in shape, or there is no neighbor.

    >>> top1(np.array([7, 2]), np.array([0.75, 0.5], np.float32))
    Ranked(landmark=7, score=0.75)
    """
    _check(landmarks, similarities)
    if not landmarks.size:
        raise ValueError("there is no neighbor")
    return Ranked(int(landmarks[0]), float(similarities[0]))


def vote(
    landmarks: NDArray[np.integer],
    similarities: NDArray[np.float32],
    *,
    power: float = 1.0,
    floor: float = 0.0,
    limit: int = 5,
) -> list[Ranked]:
    """Turn one query's neighbors into a ranking of landmarks.

    Each neighbor gives its cosine similarity, raised to ``power``, to its own landmark;
    neighbors below ``floor`` stay silent. Ties go to the smaller landmark, so equal inputs
    rank equally.

    Args:
        landmarks: ``(k,)``, the landmark of each neighbor, nearest first.
        similarities: ``(k,)``, cosine in ``[-1, 1]``, aligned with ``landmarks``.
        power: Above 1, near neighbors count for more.
        floor: Cosine below which a neighbor is ignored, at least 0.
        limit: Longest ranking to return.

    Returns:
        At most ``limit`` landmarks, strongest first; empty when every neighbor
        lies below ``floor``. Scores are sums of cosines, so they may exceed 1.

    Raises:
        ValueError: The two arrays differ in shape, or ``floor`` is negative.

    >>> vote(np.array([7, 2, 2]), np.array([0.75, 0.5, 0.5], np.float32), limit=1)
    [Ranked(landmark=2, score=1.0)]
    """
    _check(landmarks, similarities)
    if floor < 0:
        raise ValueError("floor must not be negative")
    heard = similarities >= floor
    votes = similarities[heard].astype(np.float64) ** power
    found, voter = np.unique(landmarks[heard], return_inverse=True)
    scores = np.bincount(voter, weights=votes, minlength=found.size)
    order = np.lexsort((found, -scores))[:limit]
    return [Ranked(int(found[place]), float(scores[place])) for place in order]


def _check(landmarks: NDArray[np.integer], similarities: NDArray[np.float32]) -> None:
    if landmarks.ndim != 1 or landmarks.shape != similarities.shape:
        raise ValueError(f"shapes differ: {landmarks.shape} and {similarities.shape}")
