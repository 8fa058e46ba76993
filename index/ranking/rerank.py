"""Order the nearest rows of a query anew by what they are near to themselves; pure.

Source: SuperGlobal (Shao et al., ICCV 2023), with its constants.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NEIGHBORS, _WEIGHT, _EXPANDED = 9, 0.15, 10


def rerank(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score the rows nearest to a query anew.

    Each row is moved towards the nine others nearest to it, with weights of 0.15 times their
    cosines. Its score is the mean of its product with the query, and of that with the
    element-wise maximum of the ten rows that the first product puts first.

    Args:
        query: ``(d,)``, a unit row.
        vectors: ``(m, d)`` unit rows, at least one.

    Returns:
        ``(m,)`` scores, larger for a better row; not to be compared between queries.
    """
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, np.inf)  # itself comes first, whatever equals it
    others = max(0, len(vectors) - _NEIGHBORS - 1)
    near = np.argpartition(cosines, others - 1, axis=1)[:, others:]
    weights = np.zeros_like(cosines)
    own = np.take_along_axis(cosines, near, axis=1)
    np.put_along_axis(weights, near, np.float32(_WEIGHT) * own, axis=1)
    np.fill_diagonal(weights, 1.0)
    moved = weights @ vectors / weights.sum(axis=1, keepdims=True)
    by_query = moved @ query
    first = np.argsort(-by_query, kind="stable")[:_EXPANDED]
    scores: NDArray[np.float32] = (by_query + moved @ moved[first].max(axis=0)) / 2
    return scores
