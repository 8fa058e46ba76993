"""Compare an exported embedder with the network it was exported from, picture by picture.

    python benchmarks/parity.py --run RUN --embedder EMBEDDER --pictures DIR

Every picture below DIR is embedded by torch in float32 and by the artifact in each precision that
this processor has. The last line is JSON: the worst and the median cosine of each precision.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from embedder.embedder import GOLDEN_COSINE, Embedder
from embedder.runtimes.devices import can_run_bf16
from photographs import list_pictures
from trainer.evaluation.embed import embed_photographs
from trainer.model import checkpoint
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import load_recipe

BATCH = 16


def main() -> None:
    """Embed by torch and by the artifact, and print the cosines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--embedder", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    options = parser.parse_args()
    recipe = load_recipe(options.run / "recipe.yaml")
    network = EmbeddingNetwork(recipe.network.model_copy(update={"pretrained": "none"})).eval()
    tensors, _ = checkpoint.load(options.run / "best.safetensors")
    network.load_state_dict(checkpoint.part(tensors, "network"))
    listed = list_pictures(options.pictures)
    places, expected = embed_photographs(network, listed, recipe.embed, bf16=False)
    pictures = [listed[place] for place in places]
    result: dict[str, object] = {"pictures": len(pictures), "torch": torch.__version__}
    for precision in GOLDEN_COSINE:
        if precision == "bf16" and not can_run_bf16("cpu"):
            continue
        embedder = Embedder.load(options.embedder, device="cpu", precision=precision)
        rows = [
            embedder.embed(
                [embedder.prepare(p.path.read_bytes()) for p in pictures[at : at + BATCH]]
            )
            for at in range(0, len(pictures), BATCH)
        ]
        cosines = np.einsum("nd,nd->n", np.concatenate(rows), expected)
        result[precision] = {"worst": float(cosines.min()), "median": float(np.median(cosines))}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
