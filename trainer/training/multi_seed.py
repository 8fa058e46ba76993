"""Networks of one recipe that are trained one after another and exported as one embedder.

Networks from different seeds make different mistakes; joined, their vectors make fewer. The folder
of such a run holds the recipe, a report, and the run of each network in a folder of its own. A
recipe of one network leaves a plain run.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embedder.artifacts.files import write_atomic
from embedder.errors import ArtifactMissingError, TrainingError
from photographs import Photograph
from trainer.distributed import processes
from trainer.export.ensemble import join_named
from trainer.export.export import advised_ranking, export
from trainer.recipe import Recipe, load_recipe
from trainer.training.finalize import REPORT
from trainer.training.setup import LAST, RECIPE, one_of_several_learned
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
    if recipe.networks == 1:
        return train(recipe, photographs, out, lists=lists, weights=weights, resume=resume)
    if processes.is_first():
        _claim(recipe, out, resume=resume)
    reports = [
        train(own, photographs, out / own.name, lists=lists, weights=weights, resume=resume)
        for own in recipe.per_network()
    ]
    report = {
        "name": recipe.name,
        "seconds": round(sum(each["seconds"] for each in reports), 1),
        "networks": [{k: v for k, v in each.items() if k != "epochs"} for each in reports],
    }
    if processes.is_first():
        write_atomic(out / REPORT, (json.dumps(report, indent=2) + "\n").encode())
    return report


def export_networks(run: Path, out: Path) -> str:
    """Export a run as one embedder, as by :func:`trainer.export.export.export`.

    Returns:
        The embedder's digest.

    Raises:
        ArtifactMissingError: There is no run.
        ArtifactDamagedError: As for :func:`trainer.export.export.export`.
        TrainingError: As there; or the training of a network of several has not ended.
    """
    if not (run / RECIPE).is_file():
        raise ArtifactMissingError(run / RECIPE)
    recipe = load_recipe(run / RECIPE)
    if recipe.networks == 1:
        return export(run, out)
    names = [own.name for own in recipe.per_network()]
    if open_ := [name for name in names if not (run / name / REPORT).is_file()]:
        raise TrainingError(
            f"the training of {', '.join(open_)} has not ended; go on with {run} by --resume"
        )
    with tempfile.TemporaryDirectory(prefix="cairn-") as temporary:
        parts = [Path(temporary) / name for name in names]
        for name, part in zip(names, parts, strict=True):
            export(run / name, part)
        ranking = advised_ranking(recipe)
        return join_named(recipe.name, names, parts, out, ranking=ranking)


def _claim(recipe: Recipe, out: Path, *, resume: bool) -> None:
    """Make the folder of a run, or make sure that it is this recipe's.

    A recipe of which no network has learned anything does not keep the folder.
    """
    path = out / RECIPE
    if path.exists() and ((out / LAST).exists() or one_of_several_learned(out)):
        if not resume:
            raise TrainingError(f"{out} already holds a run; go on with it by --resume")
        if load_recipe(path).outcome() != recipe.outcome():
            raise TrainingError(f"{out} holds a run of another recipe; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(path, recipe.to_yaml().encode())
