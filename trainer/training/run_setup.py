"""What a run works with and does not change: its photographs, split into sets, and its device."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
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
from trainer.model import run_folder
from trainer.recipe import Recipe

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSet:
    """The photographs that a stage trains on.

    Attributes:
        photographs: Each with its landmark.
        landmarks: Their ids in the order of their numbers.
        labels: Landmark number of each photograph.
    """

    photographs: list[Photograph]
    landmarks: list[str]
    labels: list[int]

    @classmethod
    def of(cls, photographs: list[Photograph]) -> TrainingSet:
        """Number the landmarks of photographs."""
        landmarks, labels = np.unique(
            [str(p.landmark_id) for p in photographs], return_inverse=True
        )
        return cls(photographs, landmarks.tolist(), labels.tolist())

    @property
    def counts(self) -> NDArray[np.int64]:
        """Photographs of each landmark: ``(C,)``."""
        return np.bincount(self.labels, minlength=len(self.landmarks)).astype(np.int64)


@dataclass(frozen=True)
class RunContext:
    """What a run works with and does not change.

    Attributes:
        recipe: The run's.
        training_sets: One of each stage.
        train: Training photographs of the run's own list; the gallery in validation.
        validation: Photographs to choose the best network by.
        test: Photographs that are measured once, when the run ends.
        distractors: Photographs of no landmark, queries in validation too.
        out: The run's folder.
        device: Where the network is.
        bf16: Whether it computes in bfloat16.
        digest: Of everything that decides the outcome: recipe, pictures, initial weights.
    """

    recipe: Recipe
    training_sets: tuple[TrainingSet, ...]
    train: list[Photograph]
    validation: list[Photograph]
    test: list[Photograph]
    distractors: list[Photograph]
    out: Path
    device: torch.device
    bf16: bool
    digest: str

    @property
    def last(self) -> Path:
        """The checkpoint from which the run is resumed."""
        return self.out / run_folder.LAST


def set_up_run(
    recipe: Recipe,
    photographs: Sequence[Photograph],
    lists: Mapping[str, Sequence[Photograph]],
    out: Path,
    weights: Path | None,
) -> RunContext:
    """Split the photographs into sets, and choose device and precision.

    Args:
        recipe: The run's.
        photographs: Those of the run's own list.
        lists: Those of the lists that stages name, by name.
        out: Folder of the run.
        weights: Safetensors file of the backbone to start from.

    Raises:
        TrainingError: There are too few photographs.
        CatalogError: The distractors are not there.
        DeviceError: bfloat16 was asked for and the processor has none.
    """
    own = _labeled(photographs, recipe)
    named = {name: _labeled(listed, recipe) for name, listed in lists.items()}
    train, validation, test = _split(own, recipe)
    withheld = {p.id for p in own} - {p.id for p in train}
    sets: dict[str | None, TrainingSet] = {None: TrainingSet.of(train)}
    for name, listed in named.items():
        sets[name] = TrainingSet.of([p for p in listed if p.id not in withheld])
    device = processes.device()
    distractors = list_pictures(recipe.data.distractors) if recipe.data.distractors else []
    everything = (*own, *(p for listed in named.values() for p in listed), *distractors)
    context = RunContext(
        recipe=recipe,
        training_sets=tuple(sets[stage.list] for stage in recipe.stages),
        train=train,
        validation=validation,
        test=test,
        distractors=distractors,
        out=out,
        device=device,
        bf16=_use_bf16(recipe, device),
        digest=_digest_inputs(recipe, everything, weights),
    )
    _log.info(
        "%d training pictures of %d landmarks, %d validation pictures; %s in %s; processes: %d",
        len(train),
        len({photograph.landmark_id for photograph in train}),
        len(validation),
        device.type,
        "bf16" if context.bf16 else "f32",
        processes.size(),
    )
    return context


def _labeled(photographs: Sequence[Photograph], recipe: Recipe) -> list[Photograph]:
    """Take the photographs of a list that may be trained on; they show two landmarks or more."""
    known = labeled(photographs, recipe.data.subset, seed=recipe.seed)
    landmarks = {photograph.landmark_id for photograph in known}
    if len(landmarks) < 2:
        raise TrainingError(
            f"{len(known)} photographs of {len(landmarks)} landmarks are too few to train on"
        )
    return known


def _split(
    photographs: list[Photograph], recipe: Recipe
) -> tuple[list[Photograph], list[Photograph], list[Photograph]]:
    """Split photographs into those of training, validation and test."""
    validation, seed = recipe.data.validation, recipe.seed
    if isinstance(validation, CountsRecipe):
        return counts_split(photographs, validation, seed=seed)
    if isinstance(validation, FoldsRecipe):
        return *folds_split(photographs, validation, seed=seed), []
    return *stratified_split(photographs, validation, seed=seed), []


def _use_bf16(recipe: Recipe, device: torch.device) -> bool:
    able = can_run_bf16("cuda" if device.type == "cuda" else "cpu")
    if recipe.precision == "bf16" and not able:
        raise DeviceError("this processor has no bfloat16; set precision=auto or precision=f32")
    return able and recipe.precision != "f32"


def _digest_inputs(recipe: Recipe, photographs: Iterable[Photograph], weights: Path | None) -> str:
    """Compute the digest of everything that decides the outcome of a run."""
    weights_digest = sha256_file(weights) if weights and weights.is_file() else ""
    lines = [recipe.outcome(), weights_digest, *(f"{p.id} {p.landmark_id}" for p in photographs)]
    return sha256_bytes("\n".join(lines).encode())
