"""Queries with their ground truth, as columns: see :mod:`photographs.photograph_list`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from photographs.photograph import Query
from photographs.photograph_list import UNKNOWN, PhotographList

_BLOCK = 4096
"""Queries that are made at a time while a list is iterated."""


class QueryList(Sequence[Query]):
    """Queries, sorted by id, each made when it is asked for.

    Attributes:
        photographs: ``n`` pictures; their labels do not count.
        ends: ``(n + 1,)`` int64, where the landmarks of each query begin and end.
        landmark_ids: ``(m,)`` strings, the landmarks of one query after those of another.
    """

    def __init__(
        self, photographs: PhotographList, ends: NDArray[np.int64], landmark_ids: pa.StringArray
    ) -> None:
        self.photographs = photographs
        self.ends = ends
        self.landmark_ids = landmark_ids

    @classmethod
    def of(cls, photographs: PhotographList, shown: Iterable[Sequence[str]]) -> QueryList:
        """Take pictures in any order, and the landmarks that each shows."""
        counts, landmarks = list[int](), list[str]()
        for one in shown:
            counts.append(len(one))
            landmarks += one
        ends = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        return cls(photographs, ends, pa.array(landmarks, pa.string()))._by_id()

    @classmethod
    def of_labels(cls, photographs: PhotographList) -> QueryList:
        """Take pictures in any order, each of which shows its landmark, or none if unknown."""
        known = photographs.labels != UNKNOWN
        names = pa.array(photographs.landmarks, pa.string())
        landmarks = names.take(photographs.labels[known])
        ends = np.concatenate([[0], np.cumsum(known)])
        return cls(photographs, ends, landmarks)._by_id()

    def _by_id(self) -> QueryList:
        order = pc.array_sort_indices(self.photographs.ids).to_numpy().astype(np.int64)
        return self.take(order)

    def take(self, places: NDArray[np.int64]) -> QueryList:
        """Return the queries at ``places``, in that order."""
        begins, counts = self.ends[:-1][places], np.diff(self.ends)[places]
        ends = np.concatenate([[0], np.cumsum(counts)])
        own = np.arange(ends[-1]) + np.repeat(begins - ends[:-1], counts)
        return QueryList(self.photographs.take(places), ends, self.landmark_ids.take(own))

    @property
    def owners(self) -> NDArray[np.int64]:
        """The query that shows each of ``landmark_ids``, ``(m,)``, ascending."""
        return np.repeat(np.arange(len(self)), np.diff(self.ends))

    def __len__(self) -> int:
        return len(self.photographs)

    @overload
    def __getitem__(self, place: int) -> Query: ...
    @overload
    def __getitem__(self, place: slice) -> QueryList: ...
    def __getitem__(self, place: int | slice) -> Query | QueryList:
        if isinstance(place, slice):
            return self.take(np.arange(*place.indices(len(self))))
        place = range(len(self))[place]
        one, own = self.photographs[place], slice(int(self.ends[place]), int(self.ends[place + 1]))
        return Query(one.id, one.path, tuple(self.landmark_ids[own].to_pylist()))

    def __iter__(self) -> Iterator[Query]:
        for begin in range(0, len(self), _BLOCK):
            block = self[begin : begin + _BLOCK]
            landmarks, ends = block.landmark_ids.to_pylist(), block.ends.tolist()
            pairs = zip(block.photographs, ends, ends[1:], strict=False)
            yield from (Query(p.id, p.path, tuple(landmarks[a:b])) for p, a, b in pairs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueryList | list):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # like a list's

    def __repr__(self) -> str:
        return f"<{len(self)} queries>"
