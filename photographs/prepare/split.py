"""Splits of a list of photographs: pure, and the same for the same seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedder.errors import TrainingError
from photographs import Photograph, landmark_order


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SubsetRecipe(_Frozen):
    """A balanced part of the photographs.

    Attributes:
        landmarks: Only this many, those with the most pictures; None takes all.
        pictures: Of each landmark at most this many, drawn at random; None takes all.
    """

    landmarks: int | None = Field(default=None, ge=2)
    pictures: int | None = Field(default=None, ge=1)


class FoldsRecipe(_Frozen):
    """Learn from all folds but one, keep back every n-th picture of that one.

    Attributes:
        folds: Their number; each has its share of every landmark.
        fold: Which one is not learned from.
        every: 1 keeps all of it back, 15 every 15th picture, to save time.
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


class CountsRecipe(_Frozen):
    """Split at random into parts of given sizes.

    Attributes:
        learned: Pictures to learn from.
        kept_back: Pictures to choose the best network by.
        tested: Pictures that are looked at once, when the run ends: the report tells the GAP by
            top1.
    """

    kind: Literal["counts"]
    learned: int = Field(ge=2)
    kept_back: int = Field(ge=0)
    tested: int = Field(default=0, ge=0)


def labeled(
    photographs: Sequence[Photograph], subset: SubsetRecipe | None, *, seed: int
) -> list[Photograph]:
    """Take the photographs that a run may learn from: with a landmark, and in the subset."""
    known = [photograph for photograph in photographs if photograph.landmark_id is not None]
    return balanced_subset(known, subset, seed=seed) if subset else known


def stratified_split(
    photographs: Sequence[Photograph], fraction: float, *, seed: int
) -> tuple[list[Photograph], list[Photograph]]:
    """Keep back about ``fraction`` of each landmark's photographs.

    A landmark always keeps at least two photographs to learn from, so the smallest give none.

    Args:
        photographs: All of them.
        fraction: Part to keep back, in [0, 1).
        seed: Which ones.

    Returns:
        Those to learn from and those kept back, each in the order given.
    """
    rng = np.random.default_rng(seed)
    kept_back: set[int] = set()
    for positions in _by_landmark(photographs).values():
        wanted = max(1, round(fraction * len(positions))) if fraction else 0
        number = max(0, min(wanted, len(positions) - 2))
        kept_back.update(rng.permutation(positions)[:number].tolist())
    learned = [p for position, p in enumerate(photographs) if position not in kept_back]
    return learned, [photographs[position] for position in sorted(kept_back)]


def folds_split(
    photographs: Sequence[Photograph], recipe: FoldsRecipe, *, seed: int
) -> tuple[list[Photograph], list[Photograph]]:
    """Leave one fold out, and keep every n-th picture of it back.

    The same seed makes the same folds, whichever is left out. The only photograph of a landmark
    is always learned from.
    """
    rng = np.random.default_rng(seed)
    left_out: set[int] = set()
    for positions in _by_landmark(photographs).values():
        folds = (rng.permutation(len(positions)) + rng.integers(recipe.folds)) % recipe.folds
        if len(positions) > 1:
            left_out |= {p for p, f in zip(positions, folds, strict=True) if f == recipe.fold}
    learned = [p for position, p in enumerate(photographs) if position not in left_out]
    return learned, [photographs[position] for position in sorted(left_out)[:: recipe.every]]


def counts_split(
    photographs: Sequence[Photograph], recipe: CountsRecipe, *, seed: int
) -> tuple[list[Photograph], list[Photograph], list[Photograph]]:
    """Split at random by counts; at least one photograph of each landmark is learned from.

    Raises:
        TrainingError: There are too few photographs.
    """
    counts = (recipe.learned, recipe.kept_back, recipe.tested)
    landmarks = _by_landmark(photographs)
    if sum(counts) > len(photographs) or recipe.learned < len(landmarks):
        raise TrainingError(
            f"data.validation asks for {' + '.join(map(str, counts))} photographs, the first of "
            f"them from each landmark; there are {len(photographs)} of {len(landmarks)} landmarks"
        )
    rng = np.random.default_rng(seed)
    ones = [int(rng.choice(positions)) for positions in landmarks.values()]
    order = ones + [p for p in rng.permutation(len(photographs)).tolist() if p not in set(ones)]
    ends = np.cumsum(counts).tolist()
    parts = (order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] : ends[2]])
    learned, kept_back, tested = ([photographs[i] for i in sorted(part)] for part in parts)
    return learned, kept_back, tested


def balanced_subset(
    photographs: Sequence[Photograph], recipe: SubsetRecipe, *, seed: int
) -> list[Photograph]:
    """Take the landmarks with the most photographs, and some photographs of each.

    Landmarks of equal size come in ``landmark_order``; one with too few photographs gives all.

    Returns:
        In the order given.
    """
    sizes = [(-len(p), landmark_order(mark), p) for mark, p in _by_landmark(photographs).items()]
    rng = np.random.default_rng(seed)
    taken: list[int] = []
    for _, _, positions in sorted(sizes)[: recipe.landmarks]:
        taken += rng.permutation(positions)[: recipe.pictures].tolist()
    return [photographs[position] for position in sorted(taken)]


def random_part(photographs: Sequence[Photograph], number: int, *, seed: int) -> list[Photograph]:
    """Take so many photographs at random, or all of them if there are fewer.

    Returns:
        In the order given.
    """
    chosen = np.random.default_rng(seed).permutation(len(photographs))[:number]
    return [photographs[position] for position in sorted(chosen.tolist())]


def _by_landmark(photographs: Sequence[Photograph]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for position, photograph in enumerate(photographs):
        found[str(photograph.landmark_id)].append(position)
    return found


def first_of_each(photographs: Sequence[Photograph], limit: int) -> list[Photograph]:
    """Take at most ``limit`` photographs of each landmark, the first ones."""
    taken: dict[str, int] = defaultdict(int)
    chosen = []
    for photograph in photographs:
        landmark = str(photograph.landmark_id)
        taken[landmark] += 1
        if taken[landmark] <= limit:
            chosen.append(photograph)
    return chosen
