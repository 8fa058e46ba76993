"""What a search engine is, and the rules that every search follows.

Only here are similarities clamped, ties broken and removed rows left out, so that every engine
and every reader of a gallery gives the same answer.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_SPARE = 7
"""Neighbors requested beyond ``k``: they show whether the ``k``-th is tied with the next."""

_BLOCK_QUERIES = 256

Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Similarities and rows, both ``(n, k)``."""

Order = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""Gives rows numbers that ascend in the order of equally near rows."""


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The rows of a gallery nearest to each query.

    Attributes:
        rows: ``(n, k)`` int64, nearest first; equally near rows in their order.
        similarities: ``(n, k)`` float32, cosine in [-1, 1], aligned with ``rows``.
    """

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]


class Engine(Protocol):
    """Unit vectors that can be searched. Names are those of FAISS, whose indexes are engines.

    Attributes:
        ntotal: How many vectors there are.
        d: Their length.
    """

    ntotal: int
    d: int

    def search(self, x: NDArray[np.float32], k: int) -> Found:
        """Find the ``k`` rows, at most ``ntotal``, of largest inner product with each query.

        The queries are ``(n, d)`` contiguous unit rows. Similarities come largest first; equal
        ones in any order.
        """

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of the rows ``key``."""


class LiveRows:
    """An engine without its removed rows, which FAISS's fast scan and refinement cannot skip."""

    def __init__(self, engine: Engine, removed: NDArray[np.int64]) -> None:
        self.ntotal, self.d = engine.ntotal - len(removed), engine.d
        self.engine = engine
        self._removed = np.zeros(engine.ntotal, np.bool_)
        self._removed[removed] = True

    def search(self, x: NDArray[np.float32], k: int, width: int = 0) -> Found:
        """Search for ``width`` rows, and for more where fewer than ``k`` of them are live."""
        width = min(width or k + _SPARE, self.engine.ntotal)
        found = self.engine.search(x, width)
        removed = self._removed[found[1]]
        live_first = np.argsort(removed, axis=1, kind="stable")[:, :k]
        similarities, rows = take(found, live_first)
        short = np.flatnonzero(width - removed.sum(axis=1) < k)
        if short.size:
            similarities[short], rows[short] = self.search(x[short], k, 4 * width)
        return similarities, rows

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of the rows ``key``; of removed ones too."""
        return self.engine.reconstruct_batch(key)


def take(found: Found, places: NDArray[np.intp]) -> Found:
    """Return the ``places``, ``(n, k)``, of each query's similarities and rows."""
    similarities, rows = found
    return (
        np.take_along_axis(similarities, places, axis=1),
        np.take_along_axis(rows, places, axis=1),
    )


def best_first(
    scores: NDArray[np.float32], rows: NDArray[np.int64], order: Order | None
) -> NDArray[np.intp]:
    """Return the places, ``(n, k)``, of each query's rows: largest score first.

    Of equals, that comes first which ``order`` puts first; ``None`` is that of their numbers. It
    is asked for the tied rows only.
    """
    if order is None:
        return np.lexsort((rows, -scores))
    places = np.argsort(-scores, axis=1, kind="stable")
    sorted_scores, sorted_rows = take((scores, rows), places)
    tied = np.zeros(rows.shape, np.bool_)
    same = sorted_scores[:, 1:] == sorted_scores[:, :-1]
    tied[:, 1:] |= same
    tied[:, :-1] |= same
    turns = np.zeros(rows.shape, np.int64)
    if tied.any():
        turns[tied] = order(sorted_rows[tied])
    return np.take_along_axis(places, np.lexsort((turns, -sorted_scores)), axis=1)


def find_nearest(
    engine: Engine, queries: NDArray[np.float32], k: int, order: Order | None = None
) -> Neighbors:
    """Find the ``k`` nearest rows of each query.

    Rows are ordered by similarity before it is clamped, so that of several rows reported as 1
    the nearest still comes first; of equals, that which ``order`` puts first.

    Args:
        engine: What searches.
        queries: ``(n, d)`` unit rows, finite.
        k: At least 1; more than there are rows finds all of them.
        order: The order of equally near rows; ``None`` is that of their numbers.

    Raises:
        ValueError: ``queries`` has another shape or is not finite, or ``k`` is below 1.
    """
    if queries.ndim != 2 or queries.shape[1] != engine.d:
        raise ValueError(f"queries have the shape {queries.shape}, not (n, {engine.d})")
    if not np.isfinite(queries).all():
        raise ValueError("a query is not finite")
    if k < 1:
        raise ValueError("k must be at least 1")
    k = min(k, engine.ntotal)
    found = _break_ties(engine, np.ascontiguousarray(queries, np.float32), k, k + _SPARE, order)
    return Neighbors(found.rows, found.similarities.clip(-1.0, 1.0))


def _break_ties(
    engine: Engine, queries: NDArray[np.float32], k: int, width: int, order: Order | None
) -> Neighbors:
    """Find the ``k`` first rows ordered by similarity, then by ``order``.

    An engine returns any of several equally near rows. So ``width`` rows are requested, and more
    where the tie of the ``k``-th reaches the last of them.
    """
    width = min(width, engine.ntotal)
    similarities, rows = engine.search(queries, width)
    similarities, rows = take((similarities, rows), best_first(similarities, rows, order))
    tied = np.flatnonzero(similarities[:, k - 1] == similarities[:, -1])
    if tied.size and width < engine.ntotal:
        wider = _break_ties(engine, queries[tied], k, 8 * width, order)
        rows[tied, :k], similarities[tied, :k] = wider.rows, wider.similarities
    return Neighbors(rows[:, :k], similarities[:, :k])


def scan_penalized(
    blocks: Iterable[NDArray[np.float32]],
    queries: NDArray[np.float32],
    k: int,
    penalties: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Find the ``k`` rows of largest similarity less penalty, by comparing every row.

    Args:
        blocks: ``(b, d)`` unit rows each: all rows, in order.
        queries: ``(n, d)`` unit rows.
        k: At most the number of rows.
        penalties: ``(rows,)``, subtracted from the clamped similarity.

    Returns:
        ``(n, k)`` rows, largest score first; of equals the smaller row.
    """
    best = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    start = 0
    for block in blocks:
        penalty = penalties[start : start + len(block)]
        for first in range(0, len(queries), _BLOCK_QUERIES):
            scores = (queries[first : first + _BLOCK_QUERIES] @ block.T).clip(-1.0, 1.0) - penalty
            for place, score in enumerate(scores, first):
                better = np.flatnonzero(score > best[place, -1])
                if better.size:  # later rows lose a tie, as a stable sort has it
                    merged = np.concatenate([best[place], score[better]])
                    order = np.argsort(-merged, kind="stable")[:k]
                    best[place] = merged[order]
                    rows[place] = np.concatenate([rows[place], better + start])[order]
        start += len(block)
    return rows
