"""Engines that search the segments of a gallery as one, by FAISS on the CPU.

A row's number is its place in its segment, plus the rows of all segments before it. Similarities
do not depend on the segment that a row lies in, to the last digit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

import faiss
import numpy as np
from numpy.typing import NDArray

from index.search.neighbors import Engine, Found, take
from index.search.paging import prefetch

_MIN_REFINED = 4
"""At least so many candidates are refined for each neighbor requested."""

_BLOCK_QUERIES = 256

_MAX_PREFETCHED = 1 << 13
"""Candidates of a batch that are prefetched; above, one Python call each would take too long."""


def empty_vectors(dimension: int) -> Any:  # noqa: ANN401 (FAISS has no types)
    """Return a FAISS index of fp16 vectors, without any."""
    return faiss.IndexScalarQuantizer(
        dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )


class ExactRows:
    """An engine that compares every vector of several segments.

    Args:
        segments: FAISS indexes of fp16 vectors, at least one.

    Attributes:
        segments: The same.
        begins: The number of the first row of each segment, and that of all rows.
        ntotal: How many vectors there are.
        d: Their length.
    """

    def __init__(self, segments: Sequence[Any]) -> None:
        self.segments = segments
        self.begins = np.cumsum([0, *(segment.ntotal for segment in segments)])
        self.ntotal, self.d = int(self.begins[-1]), int(segments[0].d)

    def search(self, x: NDArray[np.float32], k: int) -> Found:
        """Find the ``k`` nearest rows of each query."""
        return self.merge(
            [segment.search(x, min(k, segment.ntotal)) for segment in self.segments], k
        )

    def merge(self, found: Sequence[Found], k: int) -> Found:
        """Keep the ``k`` nearest of what was found in each segment, in its own numbers."""
        if len(found) == 1:
            return found[0]
        similarities = np.concatenate([of_one for of_one, _ in found], axis=1)
        numbered = zip(found, self.begins, strict=False)
        rows = np.concatenate([rows + begin for (_, rows), begin in numbered], axis=1)
        return take((similarities, rows), np.argsort(-similarities, axis=1, kind="stable")[:, :k])

    def refine(self, query: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Found:
        """Find the ``k`` nearest of ``rows``, ``(m,)`` ascending, to one query, ``(d,)``.

        Their vectors are copied side by side, for FAISS to compare them as it does all of them.
        """
        gathered = empty_vectors(self.d)
        for segment, own in self._cut(rows):
            gathered.add_sa_codes(_memory(segment)[own])
        similarities, places = gathered.search(query[None], k)  # -1 where there are fewer
        return similarities[0], np.append(rows, -1)[places[0]]

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        """Have the system begin to read the vectors of ``rows``, without waiting for them."""
        for segment, own in self._cut(np.unique(rows)):
            memory = _memory(segment)
            prefetch(memory, own * memory.shape[1], memory.shape[1])

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of the rows ``key``."""
        order = np.argsort(key, kind="stable")
        vectors = np.empty((len(key), self.d), np.float32)
        found = [segment.reconstruct_batch(own) for segment, own in self._cut(key[order])]
        vectors[order] = np.concatenate(found)
        return vectors

    def _cut(self, rows: NDArray[np.int64]) -> Iterator[tuple[Any, NDArray[np.int64]]]:
        """Yield each segment that has some of ``rows``, ascending, and their numbers in it."""
        bounds = pairwise(np.searchsorted(rows, self.begins).tolist())
        for segment, begin, (first, last) in zip(self.segments, self.begins, bounds, strict=False):
            if first < last:
                yield segment, rows[first:last] - begin


class RefinedEngine:
    """Finds candidates by small codes and refines them: compares them again by exact similarity.

    Args:
        candidates: A FAISS index of the same rows, that finds the candidates.
        exact: Refines them; searches alone where candidates are too many or too few.
        k_factor: How many candidates there are at least.
        max_candidates: By default a quarter of all rows.
        lock: Held during a search of candidates.

    Attributes:
        exact: What refines.
        k_factor: How many candidates there are at least.
        prefetches: Whether candidates are prefetched, for vectors that may still lie on disk: a
            little slower for vectors in memory, with the same result. On a CPU only.
    """

    def __init__(
        self,
        candidates: Any,  # noqa: ANN401 (as above)
        exact: ExactRows,
        *,
        k_factor: int,
        max_candidates: int | None = None,
        lock: contextlib.AbstractContextManager[Any] | None = None,
    ) -> None:
        self.ntotal, self.d = exact.ntotal, exact.d
        self._candidates, self.exact, self.k_factor = candidates, exact, k_factor
        self._whole: Any = None
        if len(exact.segments) == 1:
            self._whole = faiss.IndexRefine(candidates, exact.segments[0])
        self._max_candidates = exact.ntotal // 4 if max_candidates is None else max_candidates
        self._lock = lock or contextlib.nullcontext()
        self.prefetches = False

    def search(self, x: NDArray[np.float32], k: int) -> Found:
        """Find the ``k`` nearest of the candidates of each query."""
        candidates = max(self.k_factor, _MIN_REFINED * k)
        if candidates > self._max_candidates:
            return self.exact.search(x, k)
        prefetches = self.prefetches and len(x) * candidates <= _MAX_PREFETCHED
        similarities = np.empty((len(x), k), np.float32)
        rows = np.empty((len(x), k), np.int64)
        for start in range(0, len(x), _BLOCK_QUERIES):  # FAISS allocates all candidates of a call
            block = slice(start, start + _BLOCK_QUERIES)
            if self._whole is None or prefetches:
                found = self._gather(x[block], k, candidates, prefetches=prefetches)
            else:
                found = self._refine(x[block], k, candidates)
            similarities[block], rows[block] = found
        short = np.flatnonzero(rows[:, -1] < 0)
        if short.size:
            similarities[short], rows[short] = self.exact.search(x[short], k)
        return similarities, rows

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of the rows ``key``."""
        return self.exact.reconstruct_batch(key)

    def _refine(self, x: NDArray[np.float32], k: int, candidates: int) -> Found:
        """Let FAISS refine, which it does for one segment, in memory."""
        # FAISS multiplies and truncates: the half keeps rounding from losing a candidate.
        factor = (candidates + 0.5) / k
        options = faiss.IndexRefineSearchParameters(k_factor=factor)  # type: ignore[call-arg]  # stubs
        with self._lock:
            found: Found = self._whole.search(x, k, params=options)
        return found

    def _gather(
        self, x: NDArray[np.float32], k: int, candidates: int, *, prefetches: bool
    ) -> Found:
        """Refine to the same digits, whatever segments the candidates lie in.

        FAISS would also fault them in one after the other: a thousand took 20 ms from disk
        instead of the 3 of prefetching all of them first.
        """
        with self._lock:
            _, rows = self._candidates.search(x, candidates)
        if prefetches:
            self.exact.prefetch(rows[rows >= 0])
        found = [
            self.exact.refine(query, np.sort(own[own >= 0]), k)
            for query, own in zip(x, rows, strict=True)
        ]
        return np.stack([of_one for of_one, _ in found]), np.stack([of_one for _, of_one in found])


class SelectedRows:
    """Some rows of an engine, each of which is compared exactly.

    Its results are those of an exact engine that holds only these rows, in the numbers of the
    whole. Other rows cost a look at one bit each: 4 ms for a query of 1.58 million rows.

    Args:
        engine: From :func:`index.search.faiss_search.open_vectors`; on a GPU too, the CPU
            searches.
        rows: ``(m,)`` ascending, at least one.
    """

    def __init__(self, engine: Engine, rows: NDArray[np.int64]) -> None:
        self._exact: ExactRows = getattr(engine, "exact", None) or cast("ExactRows", engine)
        self.ntotal, self.d = len(rows), engine.d
        selected = np.zeros(engine.ntotal, np.bool_)
        selected[rows] = True
        self._counts, self._bits = list[int](), list[NDArray[np.uint8]]()
        for own in np.split(selected, self._exact.begins[1:-1]):
            self._counts.append(int(np.count_nonzero(own)))
            self._bits.append(np.packbits(own, bitorder="little"))  # FAISS keeps only its address

    def search(self, x: NDArray[np.float32], k: int) -> Found:
        """Find the ``k`` nearest of the rows."""
        found = []
        for segment, count, bits in zip(
            self._exact.segments, self._counts, self._bits, strict=True
        ):
            selector = faiss.IDSelectorBitmap(len(bits) * 8, faiss.swig_ptr(bits))
            options = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]  # not in stubs
            found.append(segment.search(x, min(k, max(1, count)), params=options))
        return self._exact.merge(found, k)

    def reconstruct_batch(self, key: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of the rows ``key``."""
        return self._exact.reconstruct_batch(key)


def _memory(segment: Any) -> NDArray[np.uint8]:  # noqa: ANN401 (as above)
    """Return the mapped vectors of a segment, ``(rows, bytes of a vector)``."""
    codes: NDArray[np.uint8] = faiss.rev_swig_ptr(segment.codes.data(), segment.codes.size())
    return codes.reshape(segment.ntotal, segment.code_size)
