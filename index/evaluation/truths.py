"""What labeled queries show, as columns of a gallery's landmark codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.gallery.catalog import Catalog
from photographs import QueryList

_ABSENT = -1


@dataclass(frozen=True, slots=True, eq=False)
class Truths:
    """The landmarks that ``n`` queries show, ``m`` together.

    Attributes:
        count: ``n``.
        owners: ``(m,)`` int64, which query shows each of them, ascending.
        codes: ``(m,)`` int64, landmark codes; -1 for a landmark that the gallery lacks. No query
            shows one twice.
    """

    count: int
    owners: NDArray[np.int64]
    codes: NDArray[np.int64]

    @classmethod
    def of(cls, truths: Iterable[Sequence[str]], catalog: Catalog) -> Truths:
        """Look up the landmark ids that each query shows in the catalog of a gallery."""
        shown = [tuple(dict.fromkeys(landmark_ids)) for landmark_ids in truths]
        codes = catalog.landmarks_of_ids({landmark for one in shown for landmark in one})
        owners = np.repeat(np.arange(len(shown)), [len(one) for one in shown])
        found = [codes.get(landmark, _ABSENT) for one in shown for landmark in one]
        return cls(len(shown), owners, np.array(found, np.int64))

    @classmethod
    def of_queries(cls, queries: QueryList, catalog: Catalog) -> Truths:
        """Look up what queries show in the catalog of a gallery."""
        shown = queries.landmark_ids.dictionary_encode()
        ids = shown.dictionary.to_pylist()
        code_of = catalog.landmarks_of_ids(ids)
        codes = np.array([code_of.get(one, _ABSENT) for one in ids], np.int64)
        return cls(len(queries), queries.owners, codes[shown.indices.to_numpy()])

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether each query, ``(n,)``, shows a landmark."""
        return np.bincount(self.owners, minlength=self.count) > 0

    def take(self, places: Sequence[int] | NDArray[np.integer]) -> Truths:
        """Return the truths of the queries at ``places``, ascending."""
        numbers = np.full(self.count, -1, np.int64)
        numbers[places] = np.arange(len(places))
        kept = numbers[self.owners] >= 0
        return Truths(len(places), numbers[self.owners[kept]], self.codes[kept])

    def shows(self, landmarks: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Tell which answers are right.

        Args:
            landmarks: ``(n,)`` or ``(n, k)`` codes.
        """
        right = np.zeros(landmarks.shape, np.bool_)
        queries, starts = np.unique(self.owners, return_index=True)
        if len(starts):
            codes = self.codes.reshape(-1, *[1] * (landmarks.ndim - 1))
            matches = landmarks[self.owners] == codes
            right[queries] = np.logical_or.reduceat(matches, starts, axis=0)
        return right

    def pictures(self, counts: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return how many pictures the gallery has of what each query shows, ``(n,)``.

        Args:
            counts: ``(landmarks,)``, pictures of each landmark of the gallery.
        """
        sums = np.bincount(self.owners, self._counts(counts), self.count)
        return sums.astype(np.int64)

    def largest(self, counts: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the pictures of the largest landmark that each query shows, ``(n,)``; 0 of none.

        Args:
            counts: As for :meth:`pictures`.
        """
        largest = np.zeros(self.count, np.int64)
        np.maximum.at(largest, self.owners, self._counts(counts))
        return largest

    def _counts(self, counts: NDArray[np.integer]) -> NDArray[np.int64]:
        return np.append(counts, 0)[self.codes].astype(np.int64)  # _ABSENT is the last
