"""The files of a training run by name, and the trained network that is read from them.

A run is one folder; a multi-seed run holds the folder of each of its networks. What stands inside
a checkpoint belongs to :mod:`trainer.model.checkpoint`. This module knows no head and no step.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from embedder.artifacts.documents import read_document, write_document
from embedder.artifacts.files import write_atomic
from embedder.errors import ArtifactDamagedError, ArtifactMismatchError, ArtifactMissingError
from trainer.model import checkpoint
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import Recipe, load_recipe

RECIPE = "recipe.yaml"  # the resolved recipe
LAST = "last.safetensors"  # the checkpoint from which the run is resumed
# The checkpoint before it, until the run has ended: that is resumed if the last one is damaged.
PREVIOUS = "previous.safetensors"
# The network with the best validation score, and the head that it was trained with.
BEST = "best.safetensors"
# ``crops``: ``(m, 3, side, side)`` float16, normalized training pictures to check exports with.
CROPS = "crops.npz"
WHITENING = "whitening.safetensors"  # the whitening, if the recipe asks for one
REPORT = "report.json"  # the metrics; written last of all, when the run has ended
REPORT_PAGE = "report.html"  # the same for people
# Ids of the training pictures that could not be read, if there are any.
UNREADABLE = "unreadable.txt"
TENSORBOARD = "tensorboard"  # folder of the event files, if the recipe asks for them
REPORT_VERSION = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network, and what belongs to it.

    Attributes:
        recipe: The run's.
        network: In evaluation mode, on the CPU; the moving average of the weights where the
            checkpoint has one.
        head: State of the head that it was trained with, by name.
        landmarks: Their ids in the order of the head's classes.
        digest: Of everything that decided the run's outcome.
    """

    recipe: Recipe
    network: EmbeddingNetwork
    head: dict[str, Tensor]
    landmarks: list[str]
    digest: str


def read_recipe(run: Path) -> Recipe:
    """Read the recipe of a run.

    Raises:
        ArtifactMissingError: The folder holds no run.
        RecipeError: The recipe has faults.
    """
    if not (run / RECIPE).is_file():
        raise ArtifactMissingError(run / RECIPE)
    return load_recipe(run / RECIPE)


def write_recipe(run: Path, recipe: Recipe) -> None:
    """Write the resolved recipe of a run."""
    write_atomic(run / RECIPE, recipe.to_yaml().encode())


def load_trained(run: Path, file: str = BEST) -> TrainedNetwork:
    """Load the network of a run from :data:`BEST` or :data:`LAST`.

    Raises:
        ArtifactMissingError: The run has no recipe, or no such checkpoint yet.
        ArtifactDamagedError: The checkpoint cannot be read.
        ArtifactMismatchError: It is of another network than the recipe's, or of a newer version.
    """
    recipe = read_recipe(run)
    tensors, facts = checkpoint.load(run / file)
    network = make_unloaded_network(recipe)
    weights = checkpoint.part(tensors, "averaged") or checkpoint.part(tensors, "network")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtifactMismatchError(
            f"network of {run}", expected=f"that of its {RECIPE}", found="another one"
        ) from error
    return TrainedNetwork(
        recipe=recipe,
        network=network.eval(),
        head=checkpoint.part(tensors, "head"),
        landmarks=facts["landmarks"],
        digest=facts["recipe"],
    )


def start_file(weights: Path) -> Path:
    """Return the file that ``weights`` start a run from: itself, or the network of that run.

    Raises:
        ArtifactMissingError: The folder holds no network of a run.
    """
    if not weights.is_dir():
        return weights
    best = weights / BEST
    return best if best.is_file() else latest_checkpoint(weights)


def make_unloaded_network(recipe: Recipe) -> EmbeddingNetwork:
    """Make a network whose weights will all come from a checkpoint: none are downloaded."""
    network = recipe.network.model_copy(update={"pretrained": "none"})
    return EmbeddingNetwork(network, sides=recipe.sides)


def is_finished(run: Path) -> bool:
    """Tell whether all stages of a run have been trained; errors as for :func:`load_trained`."""
    stage: int = checkpoint.load_facts(latest_checkpoint(run))["progress"]["stage"]
    return stage >= len(read_recipe(run).stages)


def latest_checkpoint(run: Path) -> Path:
    """Return the last checkpoint of a run; the one before it if the last one is not whole.

    Raises:
        ArtifactMissingError: There is none.
        ArtifactDamagedError: Neither is whole.
        ArtifactMismatchError: It was written by a newer version.
    """
    last, before = run / LAST, run / PREVIOUS
    try:
        checkpoint.load_facts(last)
    except (ArtifactMissingError, ArtifactDamagedError) as error:
        if not before.is_file():
            raise
        checkpoint.load_facts(before)
        _log.warning("%s; the checkpoint before it is taken, %s", error, before)
        return before
    return last


def holds_checkpoint(run: Path) -> bool:
    """Tell whether a network has begun to learn in the folder itself."""
    return any((run / name).is_file() for name in (LAST, PREVIOUS))


def holds_networks(run: Path) -> bool:
    """Tell whether a network of the run, of one or of several seeds, has begun to learn."""
    return holds_checkpoint(run) or any(map(holds_checkpoint, run.glob("*/")))


def holds_multi_seed_run(run: Path) -> bool:
    """Tell whether a folder holds a multi-seed run of which a network has begun to learn."""
    return (run / RECIPE).is_file() and holds_networks(run) and read_recipe(run).networks > 1


def write_report(run: Path, report: Mapping[str, Any]) -> None:
    """Write the metrics of a run that has ended."""
    write_document(run / REPORT, report)


def read_report(run: Path) -> dict[str, Any]:
    """Read what :func:`write_report` wrote.

    Raises:
        ArtifactMissingError: The run has not ended.
        ArtifactDamagedError: It is not a report.
        ArtifactMismatchError: It was written by a newer version.
    """
    return read_document(run / REPORT, "a report", newest=REPORT_VERSION, unversioned=1)[0]
