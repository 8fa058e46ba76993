"""One training step of MobileNetV2 on the CPU, with torch's own gradients and with Cairn's.

    python benchmarks/training_step.py [--side 192] [--batch 48]

The two take turns in one process; seconds are medians. The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time

import torch
from torch import Tensor, nn

from trainer.model.network import EmbeddingNetwork
from trainer.model.strided_convolutions import use_cpu_gradients
from trainer.recipe import NetworkRecipe
from trainer.recipe.network import AverageRecipe

ROUNDS = 7


def step(network: nn.Module, pictures: Tensor, wanted: Tensor) -> float:
    """Run forward and backward in bfloat16; return its seconds."""
    network.zero_grad(set_to_none=True)
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = network(pictures)
    (embeddings * wanted).sum().backward()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--batch", type=int, default=48)
    options = parser.parse_args()
    torch.manual_seed(0)
    recipe = NetworkRecipe(
        backbone="mobilenetv2_100", pretrained="none", pooling=AverageRecipe(kind="average")
    )
    plain = EmbeddingNetwork(recipe).to(memory_format=torch.channels_last).train()
    fast = copy.deepcopy(plain)
    use_cpu_gradients(fast)
    pictures = torch.randn(options.batch, 3, options.side, options.side)
    pictures = pictures.to(memory_format=torch.channels_last)
    wanted = torch.randn(options.batch, recipe.neck.dimension)
    times: dict[str, list[float]] = {"plain_s": [], "fast_s": []}
    for _ in range(ROUNDS):
        times["plain_s"].append(step(plain, pictures, wanted))
        times["fast_s"].append(step(fast, pictures, wanted))
    medians = {name: statistics.median(seconds[1:]) for name, seconds in times.items()}
    ratio = medians["fast_s"] / medians["plain_s"]
    print(json.dumps({**{k: round(v, 3) for k, v in medians.items()}, "ratio": round(ratio, 3)}))


if __name__ == "__main__":
    main()
