"""Queries as columns say what a list of them says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from photographs import Photograph, PhotographList, Query, QueryList

SHOWN = {"b": ("2", "1"), "a": (), "d": ("3",), "c": ("1",), "e": ()}


@pytest.fixture
def queries() -> QueryList:
    """Give five queries, listed out of order."""
    photographs = (Photograph(name, Path(f"/q/{name}.jpg"), None) for name in SHOWN)
    return QueryList.of(PhotographList.of(photographs), SHOWN.values())


def query(name: str) -> Query:
    """Make a query as it should be."""
    return Query(name, Path(f"/q/{name}.jpg"), SHOWN[name])


def test_queries_are_sorted_by_id(queries: QueryList) -> None:
    """One after the other, by place, from the end, and in parts."""
    expected = [query(name) for name in sorted(SHOWN)]
    assert queries == expected
    assert [queries[place] for place in range(-5, 5)] == expected * 2
    assert queries[1:4] == expected[1:4]
    assert queries[::-2] == expected[::-2]
    with pytest.raises(IndexError):
        queries[5]


def test_parts_keep_their_truths(queries: QueryList) -> None:
    """In the order asked for; an empty part is no query."""
    part = queries.take(np.array([3, 0, 1]))
    assert part == [query("d"), query("a"), query("b")]
    assert part.owners.tolist() == [0, 2, 2]
    assert part.landmark_ids.to_pylist() == ["3", "2", "1"]
    assert not queries[2:2]
    assert QueryList.of(PhotographList.of([]), []) == []


def test_a_label_is_what_a_picture_shows() -> None:
    """One without a label shows no landmark."""
    photographs = [Photograph("b", Path("b"), "2"), Photograph("a", Path("a"), None)]
    found = QueryList.of_labels(PhotographList.of(photographs))
    assert found == [Query("a", Path("a"), ()), Query("b", Path("b"), ("2",))]


def test_many_queries_are_made_block_by_block() -> None:
    """Those behind the first block have their own landmarks."""
    photographs = (Photograph(f"{n:05d}", Path(f"{n}"), None) for n in range(9000))
    found = QueryList.of(PhotographList.of(photographs), ([str(n)] * (n % 3) for n in range(9000)))
    assert all(one.landmark_ids == (str(n),) * (n % 3) for n, one in enumerate(found))
