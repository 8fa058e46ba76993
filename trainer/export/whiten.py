"""Whiten an existing embedder: the same network, followed by a whitening."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from tqdm import tqdm

from embedder.embedder import Embedder, Prepared
from embedder.errors import ArtifactMissingError, PictureError, TrainingError
from embedder.manifest import GOLDEN, read_manifest
from embedder.preprocess import read_file
from embedder.runtimes.torch_export import load_network
from photographs import Photograph
from trainer.evaluation.embed import GOLDEN_CROPS, prepare_crops
from trainer.export.artifact import Description
from trainer.export.network import FinishedNetwork, publish_network
from trainer.model.inference_module import InferenceModule, learn_whitening
from trainer.recipe import WhitenRecipe

_BATCH_SIZE = 32


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
    manifest, digest = read_manifest(source)
    member = manifest.members[0]
    if len(manifest.members) > 1:
        raise TrainingError(f"{source} joins several networks; whiten them before they are joined")
    if member.exported is None:
        raise ArtifactMissingError(source / "model.pt2")
    embedder = Embedder.load(source, precision="f32")
    rows = _embed(embedder, photographs)
    embedder.close()
    whitening = learn_whitening(rows, recipe)
    crops = prepare_crops(photographs, member.preprocess, GOLDEN_CROPS)
    texts = manifest.files.keys() - {GOLDEN, member.onnx, member.exported}
    finished = FinishedNetwork(
        InferenceModule(load_network(source / member.exported, "cpu"), whitening=whitening),
        member.preprocess,
        crops.astype(np.float16),
        {name: (source / name).read_bytes() for name in sorted(texts)},
    )
    learned: dict[str, JsonValue] = {
        "embedder": digest,
        "pictures": len(rows),
        "shrink": recipe.shrink,
    }
    provenance = {**manifest.provenance, "whitened": learned}
    return publish_network(out, Description(member.name, provenance, manifest.ranking), finished)


def _embed(embedder: Embedder, photographs: Sequence[Photograph]) -> NDArray[np.float32]:
    """Embed the readable photographs: ``(n, d)`` unit rows."""
    rows = [np.empty((0, embedder.dimension), np.float32)]
    with ThreadPoolExecutor() as pool, tqdm(total=len(photographs), unit="picture") as bar:
        for start in range(0, len(photographs), _BATCH_SIZE):
            batch = photographs[start : start + _BATCH_SIZE]
            prepared = pool.map(lambda photograph: _prepare(embedder, photograph), batch)
            rows.append(embedder.embed([picture for picture in prepared if picture is not None]))
            bar.update(len(batch))
    return np.concatenate(rows)


def _prepare(embedder: Embedder, photograph: Photograph) -> Prepared | None:
    """Prepare a photograph; None if it is unreadable."""
    try:
        return embedder.prepare(read_file(photograph.path, embedder.limits))
    except PictureError:
        return None
