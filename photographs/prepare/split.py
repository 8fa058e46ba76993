"""Split a list of photographs into train, validation and test. Pure; a seed repeats a split."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from embedder.artifacts.documents import FrozenModel
from embedder.errors import TrainingError
from photographs.photograph_list import PhotographList

_OLD_COUNTS = {"learned": "train", "kept_back": "validation", "tested": "test"}


class SubsetRecipe(FrozenModel):
    """A balanced subset of the photographs.

    Attributes:
        landmarks: Only this many, those with the most pictures; None takes all.
        pictures: Of each landmark at most this many, drawn at random; None takes all.
    """

    landmarks: int | None = Field(default=None, ge=2)
    pictures: int | None = Field(default=None, ge=1)


class FoldsRecipe(FrozenModel):
    """Train on all folds but one, validate on every n-th picture of that one.

    Attributes:
        folds: Their number; each has its share of every landmark.
        fold: The one that is left out of training.
        every: 1 validates on all of it, 15 on every 15th picture, to save time.
    """

    kind: Literal["folds"]
    folds: int = Field(default=5, ge=2)
    fold: int = Field(default=0, ge=0)
    every: int = Field(default=15, ge=1)

    @model_validator(mode="after")
    def _exists(self) -> FoldsRecipe:
        if self.fold >= self.folds:
            raise ValueError(f"folds are numbered from 0 to {self.folds - 1}")
        return self


class CountsRecipe(FrozenModel):
    """Split at random into parts of given sizes.

    Attributes:
        train: Pictures to train on.
        validation: Pictures to choose the best network by.
        test: Pictures that are evaluated once, when the run ends; the report has their GAP.
    """

    kind: Literal["counts"]
    train: int = Field(ge=2)
    validation: int = Field(ge=0)
    test: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, fields: Any) -> Any:  # noqa: ANN401 (any YAML value)
        """Accept the names that recipes of before had."""
        if not isinstance(fields, dict):
            return fields
        renamed = {_OLD_COUNTS.get(name, name): value for name, value in fields.items()}
        return renamed if len(renamed) == len(fields) else fields


def labeled(
    photographs: PhotographList, subset: SubsetRecipe | None, *, seed: int
) -> PhotographList:
    """Select the photographs that can be trained on: with a landmark, and in the subset."""
    known = photographs.known()
    return balanced_subset(known, subset, seed=seed) if subset else known


def stratified_split(
    photographs: PhotographList, fraction: float, *, seed: int
) -> tuple[PhotographList, PhotographList]:
    """Split off about ``fraction`` of each landmark's photographs for validation.

    A landmark always keeps at least two photographs to train on, so the smallest give none.

    Args:
        photographs: All of them, in gallery order.
        fraction: The share for validation, in [0, 1).
        seed: Which ones.

    Returns:
        Train and validation, each in the order given.
    """
    rng = np.random.default_rng(seed)
    validation = np.zeros(len(photographs), bool)
    for positions in photographs.by_landmark():
        share = max(1, round(fraction * len(positions))) if fraction else 0
        count = max(0, min(share, len(positions) - 2))
        validation[rng.permutation(positions)[:count]] = True
    return photographs.where(~validation), photographs.where(validation)


def folds_split(
    photographs: PhotographList, recipe: FoldsRecipe, *, seed: int
) -> tuple[PhotographList, PhotographList]:
    """Leave one fold out of training, and validate on every n-th picture of it.

    The same seed makes the same folds, whichever is left out. The only photograph of a landmark
    is always trained on.

    Returns:
        Train and validation, each in the order given.
    """
    rng = np.random.default_rng(seed)
    left_out = np.zeros(len(photographs), bool)
    for positions in photographs.by_landmark():
        folds = (rng.permutation(len(positions)) + rng.integers(recipe.folds)) % recipe.folds
        if len(positions) > 1:
            left_out[positions[folds == recipe.fold]] = True
    return photographs.where(~left_out), photographs.where(left_out)[:: recipe.every]


def counts_split(
    photographs: PhotographList, recipe: CountsRecipe, *, seed: int
) -> tuple[PhotographList, PhotographList, PhotographList]:
    """Split at random by counts; at least one photograph of each landmark is trained on.

    Returns:
        Train, validation and test, each in the order given.

    Raises:
        TrainingError: There are too few photographs.
    """
    counts = (recipe.train, recipe.validation, recipe.test)
    landmarks = photographs.by_landmark()
    if sum(counts) > len(photographs) or recipe.train < len(landmarks):
        raise TrainingError(
            f"data.validation asks for {' + '.join(map(str, counts))} photographs, the first of "
            f"them from each landmark; there are {len(photographs)} of {len(landmarks)} landmarks"
        )
    rng = np.random.default_rng(seed)
    ones = np.array([rng.choice(positions) for positions in landmarks], np.int64)
    others = rng.permutation(len(photographs))
    order = np.concatenate([ones, others[~np.isin(others, ones)]])
    ends = np.cumsum(counts)
    parts = (order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] : ends[2]])
    train, validation, test = (photographs.take(np.sort(part)) for part in parts)
    return train, validation, test


def balanced_subset(
    photographs: PhotographList, recipe: SubsetRecipe, *, seed: int
) -> PhotographList:
    """Select the landmarks with the most photographs, and some photographs of each.

    Landmarks of equal size come in ``landmark_order``; one with too few photographs gives all.

    Returns:
        In the order given.
    """
    largest = sorted(photographs.by_landmark(), key=len, reverse=True)  # stable
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(photographs), bool)
    for positions in largest[: recipe.landmarks]:
        chosen[rng.permutation(positions)[: recipe.pictures]] = True
    return photographs.where(chosen)


def random_subset(photographs: PhotographList, size: int, *, seed: int) -> PhotographList:
    """Select so many photographs at random, or all of them if there are fewer.

    Returns:
        In the order given.
    """
    chosen = np.random.default_rng(seed).permutation(len(photographs))[:size]
    return photographs.take(np.sort(chosen))


def random_landmarks(photographs: PhotographList, size: int, *, seed: int) -> PhotographList:
    """Select all photographs of landmarks drawn at random, as many as together have ``size``.

    The last landmark may exceed it; photographs without a landmark are left out.

    Returns:
        In the order given.
    """
    landmarks = photographs.by_landmark()
    chosen, count = np.zeros(len(photographs), bool), 0
    for number in np.random.default_rng(seed).permutation(len(landmarks)).tolist():
        if count >= size:
            break
        chosen[landmarks[number]] = True
        count += len(landmarks[number])
    return photographs.where(chosen)


def first_of_each(photographs: PhotographList, limit: int) -> PhotographList:
    """Select the first photographs of each landmark, at most ``limit``."""
    chosen = np.zeros(len(photographs), bool)
    for positions in photographs.by_landmark():
        chosen[positions[:limit]] = True
    return photographs.where(chosen)
