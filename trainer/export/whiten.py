"""Whiten an embedder that is there: the same network, with a whitening behind it."""

from __future__ import annotations

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
from trainer.evaluation.validate import GOLDEN_CROPS, prepare_crops
from trainer.export.export import Finished, publish_network
from trainer.model.inference_module import InferenceModule
from trainer.model.whitening import learn_whitening
from trainer.recipe import WhitenRecipe

_BATCH = 32


def whiten(source: Path, photographs: Sequence[Photograph], recipe: WhitenRecipe, out: Path) -> str:
    """Write an embedder of one network anew, with a whitening learned from photographs.

    Args:
        source: Folder of the embedder.
        photographs: What is learned from; those that cannot be read are left out.
        recipe: How to whiten.
        out: Folder of the new embedder, or of one to replace.

    Returns:
        The new embedder's digest.

    Raises:
        ArtifactError: The embedder cannot be used, or has no network for torch.
        TrainingError: It has several networks, there are too few photographs, or ``out`` is in
            the way.
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
    others = manifest.files.keys() - {GOLDEN, member.onnx, member.exported}
    finished = Finished(
        member.name,
        InferenceModule(load_network(source / member.exported, "cpu"), whitening=whitening),
        whitening.dimension,
        member.preprocess,
        crops.astype(np.float16),
        {name: (source / name).read_bytes() for name in sorted(others)},
        manifest.ranking,
    )
    learned: dict[str, JsonValue] = {
        "embedder": digest,
        "pictures": len(rows),
        "shrink": recipe.shrink,
    }
    return publish_network(out, finished, {**manifest.provenance, "whitened": learned})


def _embed(embedder: Embedder, photographs: Sequence[Photograph]) -> NDArray[np.float32]:
    """Embed the photographs that can be read."""
    rows = [np.empty((0, embedder.dimension), np.float32)]
    with ThreadPoolExecutor() as pool, tqdm(total=len(photographs), unit="picture") as bar:
        for start in range(0, len(photographs), _BATCH):
            batch = photographs[start : start + _BATCH]
            prepared = pool.map(lambda photograph: _prepare(embedder, photograph), batch)
            rows.append(embedder.embed([picture for picture in prepared if picture is not None]))
            bar.update(len(batch))
    return np.concatenate(rows)


def _prepare(embedder: Embedder, photograph: Photograph) -> Prepared | None:
    try:
        return embedder.prepare(read_file(photograph.path, embedder.limits))
    except PictureError:
        return None
