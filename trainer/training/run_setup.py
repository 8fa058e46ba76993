"""What a run works with and does not change: its photographs, split into sets, and its device."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embedder.artifacts.files import sha256_file
from embedder.errors import CatalogError, DeviceError, TrainingError
from embedder.runtimes.devices import can_run_bf16
from photographs import Photograph, PhotographList, QueryList, list_pictures, open_data
from photographs.prepare.split import (
    CountsRecipe,
    FoldsRecipe,
    counts_split,
    folds_split,
    labeled,
    stratified_split,
)
from trainer.distributed import processes
from trainer.evaluation.validation_set import Bounds, ValidationSet, choose_validation_set
from trainer.model import run_folder
from trainer.recipe import Recipe
from trainer.recipe.data import QueriesRecipe
from trainer.training.step import Precision

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSet:
    """The photographs that a stage trains on.

    Attributes:
        photographs: Each with its landmark.
        landmarks: Their ids in the order of their numbers.
        labels: ``(n,)`` int64, landmark number of each photograph.
    """

    photographs: PhotographList
    landmarks: list[str]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, photographs: PhotographList) -> TrainingSet:
        """Number the landmarks of photographs in the order of their ids as text."""
        shown, labels = np.unique(photographs.labels, return_inverse=True)
        landmarks, numbers = np.unique(
            [photographs.landmarks[label] for label in shown.tolist()], return_inverse=True
        )
        return cls(photographs, landmarks.tolist(), numbers[labels])

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
        train: Training photographs of the run's own list.
        validation: Photographs or queries to choose the best network by.
        test: Photographs that are measured once, when the run ends.
        distractors: Photographs of no landmark, queries in validation too.
        scored: What the network is scored on while it is trained.
        out: The run's folder.
        device: Where the network is.
        precision: What it computes in.
        weights: Digest of the file of weights that it starts from; None if it has none.
        digest: Of everything that decides the outcome: recipe, pictures, initial weights.
    """

    recipe: Recipe
    training_sets: tuple[TrainingSet, ...]
    train: PhotographList
    validation: PhotographList | QueryList
    test: PhotographList
    distractors: PhotographList
    scored: ValidationSet
    out: Path
    device: torch.device
    precision: Precision
    weights: str | None
    digest: str

    @property
    def bf16(self) -> bool:
        """Whether it computes in bfloat16, in validation too."""
        return self.precision == "bf16"

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
        weights: File of the backbone's weights, or folder of a run, to start from.

    Raises:
        TrainingError: There are too few photographs.
        CatalogError: The distractors or the queries are not there.
        DeviceError: The processor has not the precision that was asked for.
    """
    own = _labeled(photographs, recipe)
    named = {name: _labeled(listed, recipe) for name, listed in lists.items()}
    train, kept_back, test = _split(own, recipe)
    sets: dict[str | None, TrainingSet] = {None: TrainingSet.of(train)}
    for name, listed in named.items():
        withheld = own.where(~train.contains(own.ids))
        sets[name] = TrainingSet.of(listed.where(~withheld.contains(listed.ids)))
    device = processes.device()
    distractors = PhotographList.of(())
    if recipe.data.distractors:
        distractors = list_pictures(recipe.data.distractors)
    queries = _labeled_queries(recipe)
    validation = kept_back if queries is None else queries
    everything = chain(
        *(listed.labeled_ids() for listed in (own, *named.values(), distractors)),
        ((query.id, " ".join(query.landmark_ids)) for query in queries or ()),
    )
    weights_digest = _digest_weights(weights)
    context = RunContext(
        recipe=recipe,
        training_sets=tuple(sets[stage.list] for stage in recipe.stages),
        train=train,
        validation=validation,
        test=test,
        distractors=distractors,
        scored=choose_validation_set(
            train, validation, distractors, _bounds(recipe), seed=recipe.seed
        ),
        out=out,
        device=device,
        precision=_choose_precision(recipe, device),
        weights=weights_digest,
        digest=_digest_inputs(recipe, everything, weights_digest),
    )
    _log.info(
        "%d training pictures of %d landmarks, %d validation pictures, of which %d are asked for "
        "in a gallery of %d; %s in %s; processes: %d",
        len(train),
        len(sets[None].landmarks),
        len(validation),
        len(context.scored.queries) + len(context.scored.distractors),
        len(context.scored.gallery),
        device.type,
        context.precision,
        processes.size(),
    )
    return context


def _labeled(photographs: Iterable[Photograph], recipe: Recipe) -> PhotographList:
    """Take the photographs of a list that may be trained on; they show two landmarks or more."""
    listed = PhotographList.of(photographs)
    known = labeled(listed, recipe.data.subset, seed=recipe.seed)
    landmarks = np.count_nonzero(known.counts())
    if landmarks < 2:
        raise TrainingError(
            f"{len(known)} photographs of {landmarks} landmarks are too few to train on"
        )
    return known


def _split(
    photographs: PhotographList, recipe: Recipe
) -> tuple[PhotographList, PhotographList, PhotographList]:
    """Split photographs into those of training, validation and test."""
    validation, seed = recipe.data.validation, recipe.seed
    if isinstance(validation, CountsRecipe):
        return counts_split(photographs, validation, seed=seed)
    if isinstance(validation, FoldsRecipe):
        return *folds_split(photographs, validation, seed=seed), photographs[:0]
    if isinstance(validation, QueriesRecipe):
        return photographs, photographs[:0], photographs[:0]
    return *stratified_split(photographs, validation, seed=seed), photographs[:0]


def _labeled_queries(recipe: Recipe) -> QueryList | None:
    """Read the queries to validate on; None if the recipe splits the photographs.

    Raises:
        CatalogError: There are none, or they are faulty.
    """
    if not isinstance(recipe.data.validation, QueriesRecipe):
        return None
    folder = recipe.data.validation.data
    queries = open_data(folder).queries()
    if not any(query.landmark_ids for query in queries):
        raise CatalogError(folder, "it holds no labeled query that shows a landmark")
    return queries


def _bounds(recipe: Recipe) -> Bounds:
    bounds = recipe.validation
    return Bounds(recipe.data.gallery_per_landmark, bounds.gallery, bounds.queries)


def _choose_precision(recipe: Recipe, device: torch.device) -> Precision:
    """Choose what to compute in: bfloat16 needs no scaled loss, and float16 is slow on CPUs."""
    cuda = device.type == "cuda"
    able = can_run_bf16("cuda" if cuda else "cpu")
    if recipe.precision == "bf16" and not able:
        raise DeviceError("this processor has no bfloat16; set precision=auto or precision=f32")
    if recipe.precision != "auto":
        return recipe.precision
    if able:
        return "bf16"
    return "fp16" if cuda else "f32"


def _digest_weights(weights: Path | None) -> str | None:
    start = run_folder.start_file(weights) if weights else None
    return sha256_file(start) if start and start.is_file() else None


def _digest_inputs(
    recipe: Recipe, pictures: Iterable[tuple[str, str | None]], weights: str | None
) -> str:
    """Compute the digest of everything that decides the outcome of a run."""
    digest = hashlib.sha256(f"{recipe.outcome()}\n{weights or ''}".encode())
    for picture_id, landmark in pictures:
        digest.update(f"\n{picture_id} {landmark}".encode())
    return f"sha256:{digest.hexdigest()}"
