"""Train the networks of a multi-seed recipe, one after another.

Networks from different seeds make different mistakes; joined, their vectors make fewer. The folder
of such a run holds the recipe, a report, and the run of each network in a folder of its own. A
recipe of one network leaves a plain run.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from embedder.errors import TrainingError
from photographs import Photograph
from trainer.distributed import processes
from trainer.model import run_folder
from trainer.recipe import Recipe
from trainer.training.train import train


def train_networks(
    recipe: Recipe,
    photographs: Sequence[Photograph],
    out: Path,
    *,
    lists: Mapping[str, Sequence[Photograph]] | None = None,
    weights: Path | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train every network of a recipe, each as by :func:`trainer.training.train.train`.

    Returns:
        The report of the only network; or of all, with that of each under ``networks``.

    Raises:
        TrainingError: As there; or the folder holds a run of another recipe.
    """
    one = partial(train, photographs=photographs, lists=lists, resume=resume)
    if recipe.networks == 1:
        return one(recipe, out=out, weights=weights)
    if processes.is_first():
        _prepare_folder(recipe, out, resume=resume)
    reports = [
        one(own, out=out / own.name, weights=_weights_of(own, weights))
        for own in recipe.per_network()
    ]
    report = {
        "schema_version": run_folder.REPORT_VERSION,
        "name": recipe.name,
        "seconds": round(sum(each["seconds"] for each in reports), 1),
        "networks": [{k: v for k, v in each.items() if k != "epochs"} for each in reports],
    }
    if processes.is_first():
        run_folder.write_report(out, report)
    return report


def _weights_of(recipe: Recipe, weights: Path | None) -> Path | None:
    """Return what a network starts from: of a multi-seed run the network of the same name."""
    own = weights / recipe.name if weights else None
    return own if own and own.is_dir() else weights


def _prepare_folder(recipe: Recipe, out: Path, *, resume: bool) -> None:
    """Make the folder of a run; one in which a network has begun to learn must be this recipe's."""
    if (out / run_folder.RECIPE).exists() and run_folder.holds_networks(out):
        if not resume:
            raise TrainingError(f"{out} already holds a run; continue it with --resume")
        if run_folder.read_recipe(out).outcome() != recipe.outcome():
            raise TrainingError(f"{out} holds a run of another recipe; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    run_folder.write_recipe(out, recipe)
