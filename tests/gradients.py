"""Gradients of every head for one batch, in however many processes this is run.

torchrun --nproc-per-node=2 -m tests.gradients OUT.npz
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from embedder.artifacts.arrays import write_npz
from embedder.manifest import Preprocess
from trainer.data.normalize import Normalize
from trainer.distributed import processes
from trainer.distributed.synchronized_norm import synchronize_norms
from trainer.heads import make_head
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import HeadRecipe, NetworkRecipe
from trainer.training.step import GradientStep

HEADS: dict[str, dict[str, Any]] = {
    "subcenter_arcface": {
        "kind": "subcenter_arcface",
        "margin": {"kind": "dynamic"},
        "class_weights": "rarity",
    },
    "adacos-semi": {"kind": "adacos", "variant": "semi", "class_weights": "rarity"},
    "adacos-dynamic": {"kind": "adacos", "variant": "dynamic"},
    "softmax": {"kind": "softmax", "dropout": 0.3, "sample": 0.5, "class_weights": "rarity"},
}
WITH_NORMS = {
    "backbone": "mobilenetv3_small_050",
    "pretrained": "none",
    "pooling": {"kind": "gem"},
    "neck": {"dimension": 16, "after": "batchnorm-prelu"},
}
WITHOUT_NORMS = {
    "backbone": "six_convolutions",
    "pretrained": "none",
    "pooling": {"kind": "average"},
    "neck": {"kind": "hidden", "hidden": 16, "dimension": 8},
}
COUNTS = np.array([1, 3, 9, 27, 81, 243])
NUMBER = 7
SIDE = 64


def gradients(
    network: dict[str, Any], head: dict[str, Any], *, parts: int = 1
) -> dict[str, NDArray[np.float32]]:
    """Compute loss, gradients, statistics of norms and the adaptive scale for one batch."""
    torch.manual_seed(0)
    embedder = EmbeddingNetwork(NetworkRecipe.model_validate(network))
    recipe: HeadRecipe = TypeAdapter(HeadRecipe).validate_python(head)
    loss_head = make_head(recipe, embedder.dimension, COUNTS)
    if processes.size() > 1:
        synchronize_norms(embedder, torch.device("cpu"))
    pictures = torch.randint(256, (NUMBER, SIDE, SIDE, 3), dtype=torch.uint8)
    labels = torch.randint(len(COUNTS), (NUMBER,))
    own = list(processes.share(range(NUMBER)))
    of_each = processes.gather(labels[own])
    torch.manual_seed(5 + processes.rank())  # what they have to share comes from the seed
    step = GradientStep(
        embedder,
        loss_head,
        Normalize(Preprocess(side=SIDE), torch.device("cpu")),
        torch.amp.GradScaler("cpu", enabled=False),
        autocast=None,
        compiled=False,
    )
    loss = step.compute_gradients(pictures[own], of_each, parts=parts, seed=5)
    found = {"loss": loss}
    for module in (embedder, loss_head):
        found |= {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        found |= {n: b for n, b in module.named_buffers() if "running_" in n or n == "scale"}
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def main() -> None:
    """Write the gradients of all heads, from the first process."""
    with processes.process_group():
        found = {
            f"{kind}/{name}": array
            for kind, head in HEADS.items()
            for name, array in gradients(WITH_NORMS, head).items()
        }
        if processes.is_first():
            write_npz(Path(sys.argv[1]), **found)


if __name__ == "__main__":
    main()
