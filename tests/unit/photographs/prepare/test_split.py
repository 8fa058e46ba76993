"""Splits of a list of photographs are functions of their seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from embedder.errors import TrainingError
from photographs import Photograph, PhotographList
from photographs.prepare.split import (
    CountsRecipe,
    FoldsRecipe,
    SubsetRecipe,
    balanced_subset,
    counts_split,
    first_of_each,
    folds_split,
    random_landmarks,
    stratified_split,
)


def listed(sizes: list[int]) -> PhotographList:
    """List photographs of landmarks of the given sizes."""
    return PhotographList.of(
        Photograph(f"{landmark}-{n}", Path("none"), str(landmark))
        for landmark, size in enumerate(sizes)
        for n in range(size)
    )


def test_a_split_holds_out_the_fraction_of_each_landmark() -> None:
    """Each landmark gives its share, nothing is lost or doubled."""
    everything = listed([100, 40, 20])
    train, validation = stratified_split(everything, 0.1, seed=3)
    assert Counter(p.landmark_id for p in validation) == {"0": 10, "1": 4, "2": 2}
    assert sorted(p.id for p in [*train, *validation]) == sorted(p.id for p in everything)


def test_the_smallest_landmarks_keep_two_to_train_on() -> None:
    """One or two pictures are all trained on; three give one for validation."""
    train, _ = stratified_split(listed([1, 2, 3]), 0.5, seed=0)
    assert Counter(p.landmark_id for p in train) == {"0": 1, "1": 2, "2": 2}


def test_a_split_follows_its_seed() -> None:
    """The same seed splits alike, another one differently; fraction 0 keeps nothing back."""
    everything = listed([50, 50])
    assert stratified_split(everything, 0.2, seed=1) == stratified_split(everything, 0.2, seed=1)
    assert stratified_split(everything, 0.2, seed=1) != stratified_split(everything, 0.2, seed=2)
    assert stratified_split(everything, 0.0, seed=1)[1] == []


def test_landmarks_are_drawn_whole() -> None:
    """Until there are enough pictures, in the order given; photographs of no landmark never."""
    everything = PhotographList.of([*listed([4] * 9), Photograph("strange", Path("none"), None)])
    for seed in range(3):
        drawn = random_landmarks(everything, 9, seed=seed)
        assert Counter(Counter(p.landmark_id for p in drawn).values()) == {4: 3}
        assert [p.id for p in drawn] == [p.id for p in everything if p in drawn]
    assert random_landmarks(everything, 9, seed=0) != random_landmarks(everything, 9, seed=1)
    assert random_landmarks(everything, 99, seed=0) == everything.known()


def test_the_first_of_each_are_taken() -> None:
    """At most the limit of each landmark."""
    assert [p.id for p in first_of_each(listed([3, 1]), 2)] == ["0-0", "0-1", "1-0"]


def test_folds_are_disjoint_and_share_every_landmark() -> None:
    """Each picture lies in one fold; a fold is left out whole and every n-th of it validated on."""
    everything = listed([50, 10, 5, 1])
    left_out: list[str] = []
    for fold in range(5):
        whole = FoldsRecipe(kind="folds", folds=5, fold=fold, every=1)
        train, validation = folds_split(everything, whole, seed=1)
        assert Counter(p.landmark_id for p in validation) == {"0": 10, "1": 2, "2": 1}
        assert sorted(p.id for p in [*train, *validation]) == sorted(p.id for p in everything)
        left_out += [p.id for p in validation]
        fewer = whole.model_copy(update={"every": 4})
        assert folds_split(everything, fewer, seed=1) == (train, validation[::4])
    assert len(left_out) == len(set(left_out)) == 65


def test_a_split_by_counts_is_exact() -> None:
    """Parts of the sizes asked for, disjoint, each landmark trained on; too few is refused."""
    everything = listed([100, 20, 1])
    recipe = CountsRecipe(kind="counts", train=70, validation=10, test=30)
    parts = counts_split(everything, recipe, seed=0)
    assert [len(part) for part in parts] == [70, 10, 30]
    assert len({p.id for part in parts for p in part}) == 110
    assert {p.landmark_id for p in parts[0]} == {"0", "1", "2"}
    with pytest.raises(TrainingError, match=r"70 \+ 10 \+ 30 photographs.*there are 50"):
        counts_split(everything[:50], recipe, seed=0)


def test_a_balanced_subset_takes_the_largest_landmarks_alike() -> None:
    """The most frequent landmarks, so many pictures of each, by the seed; ties to smaller ids."""
    everything = listed([5, 30, 8, 30, 8])
    chosen = balanced_subset(everything, SubsetRecipe(landmarks=3, pictures=6), seed=0)
    assert Counter(p.landmark_id for p in chosen) == {"1": 6, "2": 6, "3": 6}
    assert chosen != balanced_subset(everything, SubsetRecipe(landmarks=3, pictures=6), seed=1)
    assert balanced_subset(everything, SubsetRecipe(), seed=0) == everything


def test_counts_of_older_recipes_are_read() -> None:
    """Recipes of before called the parts learned, kept_back and tested; a mixture is refused."""
    old = {"kind": "counts", "learned": 70, "kept_back": 10, "tested": 30}
    new = CountsRecipe(kind="counts", train=70, validation=10, test=30)
    assert CountsRecipe.model_validate(old) == new
    with pytest.raises(ValidationError, match="learned"):
        CountsRecipe.model_validate(new.model_dump() | {"learned": 70})
