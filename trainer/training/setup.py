"""What a run works with and does not change: photographs, split into parts, and a device."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embedder.artifacts.files import sha256_bytes, sha256_file
from embedder.errors import DeviceError, TrainingError
from embedder.runtimes.devices import can_run_bf16
from photographs import Photograph, list_pictures
from photographs.prepare.split import (
    CountsRecipe,
    FoldsRecipe,
    counts_split,
    folds_split,
    labeled,
    stratified_split,
)
from trainer.distributed import processes
from trainer.recipe import Recipe

RECIPE = "recipe.yaml"
"""File of a run that says what is trained."""

LAST = "last.safetensors"
"""File of a run from which it can be taken up again."""


def one_of_several_learned(out: Path) -> bool:
    """Tell whether a folder holds a run of several networks of which one has learned."""
    return any(out.glob(f"*/{LAST}"))


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lesson:
    """Photographs to learn from.

    Attributes:
        photographs: Each with its landmark.
        landmarks: Their ids in the order of their numbers.
        labels: Landmark number of each photograph.
    """

    photographs: list[Photograph]
    landmarks: list[str]
    labels: list[int]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Photographs of each landmark: ``(C,)``."""
        return np.bincount(self.labels, minlength=len(self.landmarks)).astype(np.int64)


@dataclass(frozen=True)
class Laboratory:
    """What a run works with and does not change.

    Attributes:
        recipe: What was asked for.
        lessons: What each stage learns from.
        learned: Photographs of the run's own list that are learned from: those that the others
            are compared with.
        kept_back: Photographs to choose the best network by.
        tested: Photographs that are looked at once, when the run ends.
        distractors: Photographs of no landmark, to choose the best network by too.
        out: The run's folder.
        device: Where the network is.
        bf16: Whether it computes in bfloat16.
        digest: Of everything that decides the outcome: recipe, pictures, first weights.
    """

    recipe: Recipe
    lessons: tuple[Lesson, ...]
    learned: list[Photograph]
    kept_back: list[Photograph]
    tested: list[Photograph]
    distractors: list[Photograph]
    out: Path
    device: torch.device
    bf16: bool
    digest: str

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.out / LAST


def set_up(
    recipe: Recipe,
    photographs: Sequence[Photograph],
    lists: Mapping[str, Sequence[Photograph]],
    out: Path,
    weights: Path | None,
) -> Laboratory:
    """Split the photographs and settle where and in what to compute.

    Args:
        recipe: The run.
        photographs: Those of the run's own list.
        lists: Those of the lists that stages name, by name.
        out: Folder of the run.
        weights: Safetensors file of the backbone to start from.

    Raises:
        TrainingError: There is too little to learn from.
        CatalogError: The distractors are not there.
        DeviceError: bfloat16 was asked for and the processor has none.
    """
    known = _labeled(photographs, recipe)
    learned, kept_back, tested = _split(known, recipe)
    withheld = {p.id for p in known} - {p.id for p in learned}
    named = {name: _labeled(pictures, recipe) for name, pictures in lists.items()}
    own = _make_lesson(learned)
    others = {
        name: _make_lesson([p for p in pictures if p.id not in withheld])
        for name, pictures in named.items()
    }
    lessons = tuple(others[stage.list] if stage.list else own for stage in recipe.stages)
    device = processes.device()
    able = can_run_bf16("cuda" if device.type == "cuda" else "cpu")
    if recipe.precision == "bf16" and not able:
        raise DeviceError("this processor has no bfloat16; set precision=auto or precision=f32")
    bf16 = able and recipe.precision != "f32"
    decisive = [recipe.outcome(), sha256_file(weights) if weights and weights.is_file() else ""]
    distractors = list_pictures(recipe.data.distractors) if recipe.data.distractors else []
    listed = (*known, *(p for pictures in named.values() for p in pictures), *distractors)
    decisive += [f"{p.id} {p.landmark_id}" for p in listed]
    _log.info(
        "%d pictures of %d landmarks to learn from, %d kept back; %s in %s, %d process%s",
        len(learned),
        len(own.landmarks),
        len(kept_back),
        device.type,
        "bf16" if bf16 else "f32",
        processes.size(),
        "es" if processes.size() > 1 else "",
    )
    return Laboratory(
        recipe=recipe,
        lessons=lessons,
        learned=learned,
        kept_back=kept_back,
        tested=tested,
        distractors=distractors,
        out=out,
        device=device,
        bf16=bf16,
        digest=sha256_bytes("\n".join(decisive).encode()),
    )


def _labeled(photographs: Sequence[Photograph], recipe: Recipe) -> list[Photograph]:
    """Take the photographs of a list that may be learned from.

    Raises:
        TrainingError: There is nothing to tell apart.
    """
    known = labeled(photographs, recipe.data.subset, seed=recipe.seed)
    landmarks = {photograph.landmark_id for photograph in known}
    if len(landmarks) < 2:
        raise TrainingError(
            f"{len(known)} photographs of {len(landmarks)} landmarks are too few to learn from"
        )
    return known


def _split(
    known: list[Photograph], recipe: Recipe
) -> tuple[list[Photograph], list[Photograph], list[Photograph]]:
    """Split into pictures to learn from, to choose by, and to look at once."""
    validation, seed = recipe.data.validation, recipe.seed
    if isinstance(validation, CountsRecipe):
        return counts_split(known, validation, seed=seed)
    if isinstance(validation, FoldsRecipe):
        return *folds_split(known, validation, seed=seed), []
    return *stratified_split(known, validation, seed=seed), []


def _make_lesson(photographs: Sequence[Photograph]) -> Lesson:
    """Number the landmarks of photographs."""
    landmarks = sorted({str(photograph.landmark_id) for photograph in photographs})
    number = {landmark: n for n, landmark in enumerate(landmarks)}
    labels = [number[str(photograph.landmark_id)] for photograph in photographs]
    return Lesson(list(photographs), landmarks, labels)
