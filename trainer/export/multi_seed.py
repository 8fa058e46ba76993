"""Export a run, of one seed or of several, as one embedder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from embedder.errors import TrainingError
from trainer.export.ensemble import join_named
from trainer.export.export import default_ranking, export
from trainer.model import run_folder


def export_networks(run: Path, out: Path) -> str:
    """Export a run as one embedder, as by :func:`trainer.export.export.export`.

    Returns:
        The embedder's digest.

    Raises:
        ArtifactMissingError: There is no run.
        ArtifactDamagedError: As for :func:`trainer.export.export.export`.
        TrainingError: As there; or the training of a network of a multi-seed run has not ended.
    """
    recipe = run_folder.read_recipe(run)
    if recipe.networks == 1:
        return export(run, out)
    names = [own.name for own in recipe.per_network()]
    if unfinished := [name for name in names if not (run / name / run_folder.REPORT).is_file()]:
        raise TrainingError(
            f"the training of {', '.join(unfinished)} has not ended; continue {run} by --resume"
        )
    with tempfile.TemporaryDirectory(prefix="cairn-") as temporary:
        parts = [Path(temporary) / name for name in names]
        for name, part in zip(names, parts, strict=True):
            export(run / name, part)
        ranking = default_ranking(recipe)
        return join_named(recipe.name, names, parts, out, ranking=ranking)
