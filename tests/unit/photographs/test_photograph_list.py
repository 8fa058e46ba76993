"""A list of photographs as columns behaves like a list of objects, and is cheap to pass on."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from photographs import Photograph, PhotographList
from photographs.photograph_list import UNKNOWN

OBJECTS = [
    Photograph("bbb", Path("x/1.jpg"), "10"),
    Photograph("ccc", Path("/elsewhere/2.png"), None),
    Photograph("aaa", Path("x/3.jpg"), "9"),
    Photograph("ddd", Path("4.jpg"), "10"),
]


def by_rule(count: int) -> PhotographList:
    """List pictures in the layout of GLDv2, of three landmarks in turn."""
    ids = pa.array([f"{n:08x}" for n in range(count)])
    labels = (np.arange(count) % 3).astype(np.int32)
    return PhotographList(ids, ["5", "7", "x"], labels, Path("train"))


def test_a_list_gives_the_photographs_that_it_was_made_of() -> None:
    """One by one, all together, and in slices; landmarks are numbered in their order."""
    listed = PhotographList.of(OBJECTS)
    assert [listed[n] for n in range(-4, 4)] == OBJECTS * 2
    assert list(listed) == listed == OBJECTS
    assert listed != OBJECTS[:3]
    assert listed[1:3] == OBJECTS[1:3]
    assert listed[::-2] == OBJECTS[::-2]
    assert listed[3:1] == []
    assert listed.landmarks == ["9", "10"]
    assert listed.labels.tolist() == [1, UNKNOWN, 0, 1]
    with pytest.raises(IndexError):
        listed[4]


def test_files_lie_where_the_rule_says() -> None:
    """Without a column of files they follow from the ids, across the blocks of an iteration."""
    listed = by_rule(5000)
    assert listed[4999] == Photograph("00001387", Path("train/0/0/0/00001387.jpg"), "7")
    assert list(listed)[4095:4098] == [listed[n] for n in (4095, 4096, 4097)]
    for root in ("train", "", "/a/b"):
        listed = PhotographList(listed.ids, listed.landmarks, listed.labels, Path(root))
        assert listed.paths().to_pylist() == [str(photograph.path) for photograph in listed]
        named = PhotographList.of(OBJECTS)
        named = PhotographList(named.ids, named.landmarks, named.labels, Path(root), named.files)
        assert named.paths().to_pylist() == [str(photograph.path) for photograph in named]


def test_an_empty_list_is_a_list() -> None:
    """Of nothing, and what is left of something."""
    for empty in (PhotographList.of(()), by_rule(3)[:0], PhotographList.of(OBJECTS)[2:2]):
        assert not empty
        assert list(empty) == list(empty.in_gallery_order()) == list(empty.known()) == []
        assert empty.by_landmark() == []


def test_a_gallery_is_ordered_by_landmark_then_id() -> None:
    """Numbers by value, the unknown last; an ordered list is returned as it is."""
    ordered = PhotographList.of(OBJECTS).in_gallery_order()
    assert [photograph.id for photograph in ordered] == ["aaa", "bbb", "ddd", "ccc"]
    assert ordered.in_gallery_order() is ordered


def test_places_of_landmarks_leave_out_the_unknown() -> None:
    """Ascending, and only of landmarks that have any."""
    listed = PhotographList.of(OBJECTS)
    assert [places.tolist() for places in listed.by_landmark()] == [[2], [0, 3]]
    assert [places.tolist() for places in listed[3:].by_landmark()] == [[0]]
    assert listed[3:].counts().tolist() == [0, 1]
    assert listed.known() == [OBJECTS[0], *OBJECTS[2:]]


def test_lists_are_joined_whatever_their_roots() -> None:
    """Landmarks are numbered anew, files keep their places."""
    first, second = PhotographList.of(OBJECTS), by_rule(2)
    joined = PhotographList.concatenate([first, second])
    assert joined == [*first, *second]
    assert joined.landmarks == ["5", "7", "9", "10"]
    assert PhotographList.concatenate([first]) is first


def test_a_slice_is_pickled_without_the_rest() -> None:
    """A worker that is sent a few photographs is not sent the whole list."""
    whole = by_rule(50_000)
    part = pickle.dumps(whole[40_000:40_010])
    assert len(part) < 2000 < 50_000 * 8 < len(pickle.dumps(whole))
    assert pickle.loads(part) == whole[40_000:40_010]  # noqa: S301 (our own bytes)
    named = PhotographList.of(whole)
    again = pickle.loads(pickle.dumps(PhotographList.of(list(named))[7:9]))  # noqa: S301 (the same)
    assert again == whole[7:9]


def test_ids_are_looked_up() -> None:
    """Of each id asked for."""
    found = PhotographList.of(OBJECTS).contains(pa.array(["aaa", "zzz", "ddd"]))
    assert found.tolist() == [True, False, True]
