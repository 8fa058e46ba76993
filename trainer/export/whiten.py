"""Whiten an existing embedder: the same network, followed by a whitening."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from photographs import Photograph
from trainer.export.source import Source
from trainer.model.adapter import learn_whitening
from trainer.recipe import WhitenRecipe


def whiten(source: Path, photographs: Sequence[Photograph], recipe: WhitenRecipe, out: Path) -> str:
    """Write a copy of an embedder with a whitening learned from photographs.

    Args:
        source: Folder of the embedder, which has one network.
        photographs: What the whitening is learned from; unreadable ones are skipped.
        recipe: How to whiten.
        out: New, or an embedder to replace.

    Returns:
        The new embedder's digest.

    Raises:
        ArtifactError: The embedder cannot be used, or has no network for torch.
        TrainingError: It has several networks, there are too few photographs, or ``out`` holds
            other files.
    """
    embedder = Source.open(source, out)
    _, rows = embedder.embed(photographs)
    learned: dict[str, JsonValue] = {
        "embedder": embedder.digest,
        "pictures": len(rows),
        "shrink": recipe.shrink,
    }
    adapter = learn_whitening(rows, recipe)
    return embedder.publish_adapted(adapter, photographs, {"whitened": learned}, out)
