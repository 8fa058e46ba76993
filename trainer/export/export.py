"""Export a network as an embedder: that of a finished run, or a pretrained one as it is."""

import json
import tempfile
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from embedder.artifacts.arrays import read_npz
from embedder.artifacts.files import sha256_file
from embedder.errors import TrainingError
from trainer.export.artifact import Description
from trainer.export.ensemble import join_named
from trainer.export.network import FinishedNetwork, publish_network
from trainer.model import run_folder
from trainer.model.adapter import load_whitening
from trainer.model.bf16_rounding import with_rounded_weights
from trainer.model.inference_module import InferenceModule
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import EmbedderRecipe


def export(run: Path, out: Path) -> str:
    """Write the best network of a run as an embedder.

    Args:
        run: Folder of the run.
        out: Folder of the embedder; new, or an embedder to replace.

    Returns:
        The embedder's digest.

    Raises:
        ArtifactMissingError: The run has no best network yet.
        ArtifactDamagedError: Its files cannot be read, or the exported network does not agree
            with the trained one.
        TrainingError: The network gives vectors that are not finite, or ``out`` holds other
            files.
    """
    best = run_folder.load_trained(run)
    recipe = best.recipe
    best.network.fix_input_side(recipe.embed.side)
    whitening = load_whitening(run / run_folder.WHITENING) if recipe.embed_whiten else None
    finished = FinishedNetwork(
        InferenceModule(best.network, recipe.embed_views, whitening).eval(),
        recipe.embed,
        read_npz(run / run_folder.CROPS)["crops"],
        {run_folder.RECIPE: (run / run_folder.RECIPE).read_bytes(), **_reports(run)},
    )
    description = Description(recipe.name, {"run": best.digest}, _default_ranking(recipe))
    return publish_network(out, description, finished)


def export_backbone(recipe: EmbedderRecipe, out: Path, *, weights: Path | None = None) -> str:
    """Write a pretrained network as an embedder, without any training.

    Errors are those of :class:`EmbeddingNetwork` and :func:`export`.

    Args:
        recipe: Its parts.
        out: As for :func:`export`.
        weights: File of the backbone's weights; None takes timm's.

    Raises:
        ValueError: The recipe asks for a whitening.
    """
    if recipe.embed_whiten:
        raise ValueError("a whitening is learned from photographs; there are none")
    network = EmbeddingNetwork(recipe.network, weights=weights, sides=recipe.sides)
    side = recipe.embed.side
    network.fix_input_side(side)
    finished = FinishedNetwork(
        InferenceModule(with_rounded_weights(network), recipe.embed_views).eval(),
        recipe.embed,
        np.empty((0, 3, side, side), np.float16),
        {run_folder.RECIPE: recipe.to_yaml().encode()},
    )
    provenance: dict[str, JsonValue] = {
        "backbone": recipe.network.backbone,
        "weights": sha256_file(weights) if weights else "timm's",
    }
    description = Description(recipe.name, provenance, _default_ranking(recipe))
    return publish_network(out, description, finished)


def export_networks(run: Path, out: Path) -> str:
    """Export a run, of one seed or of several, as one embedder; as :func:`export` does.

    Raises:
        TrainingError: The training of a network of a multi-seed run has not ended.
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
        return join_named(recipe.name, names, parts, out, ranking=_default_ranking(recipe))


def _default_ranking(recipe: EmbedderRecipe) -> dict[str, JsonValue]:
    return recipe.ranking.model_dump(mode="json", exclude_defaults=True)


def _reports(run: Path) -> dict[str, bytes]:
    """Read a run's reports without their times, so that equal trainings export equal embedders."""
    found = {path.name: path.read_bytes() for path in sorted(run.glob("report.*"))}
    if run_folder.REPORT in found:
        report = run_folder.read_report(run)
        validations = [one for epoch in report["epochs"] for one in epoch.get("validations", ())]
        for part in (report, *report["epochs"], *validations):
            for name in [name for name in part if "second" in name]:
                del part[name]
        found[run_folder.REPORT] = (json.dumps(report, indent=2) + "\n").encode()
    return found
