"""Export a network as an embedder: that of a finished run, or a pretrained one as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from embedder.artifacts.arrays import read_npz
from embedder.artifacts.files import sha256_file
from trainer.export.artifact import Description
from trainer.export.network import FinishedNetwork, publish_network
from trainer.model import run_folder
from trainer.model.bf16_rounding import with_rounded_weights
from trainer.model.inference_module import InferenceModule
from trainer.model.network import EmbeddingNetwork
from trainer.model.whitening import load_whitening
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
    description = Description(recipe.name, {"run": best.digest}, default_ranking(recipe))
    return publish_network(out, description, finished)


def export_backbone(recipe: EmbedderRecipe, out: Path, *, weights: Path | None = None) -> str:
    """Write a pretrained network as an embedder, without any training.

    Args:
        recipe: Its parts, without a whitening.
        out: Folder of the embedder; new, or an embedder to replace.
        weights: Safetensors file of the backbone; None takes timm's.

    Returns:
        The embedder's digest.

    Raises:
        RecipeError: There is no such backbone, or no pretrained weights of it.
        ArtifactMissingError: There is no file of weights.
        ArtifactDamagedError: The weights are not of this backbone; otherwise as for
            :func:`export`.
        TrainingError: As for :func:`export`.
        ValueError: The recipe asks for a whitening.
    """
    if recipe.embed_whiten:
        raise ValueError("a whitening is learned from photographs; there are none")
    network = EmbeddingNetwork(recipe.network, weights=weights)
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
    description = Description(recipe.name, provenance, default_ranking(recipe))
    return publish_network(out, description, finished)


def default_ranking(recipe: EmbedderRecipe) -> dict[str, JsonValue]:
    """Return the ranking of a recipe in the form of the manifest."""
    return recipe.ranking.model_dump(mode="json", exclude_defaults=True)


def _reports(run: Path) -> dict[str, bytes]:
    """Read a run's reports without their times, so that equal trainings export equal embedders."""
    found = {path.name: path.read_bytes() for path in sorted(run.glob("report.*"))}
    if run_folder.REPORT in found:
        report = run_folder.read_report(run)
        for part in (report, *report["epochs"]):
            for name in [name for name in part if name.startswith("seconds")]:
                del part[name]
        found[run_folder.REPORT] = (json.dumps(report, indent=2) + "\n").encode()
    return found
