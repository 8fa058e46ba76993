"""Time and memory of the heads beside pytorch-metric-learning's, at the size of GLDv2.

    python benchmarks/heads.py

81,313 landmarks x 3 sub-centers x 512 dimensions, batches of 64, forward and backward on the CPU.
Each contender runs in its own process: seconds are the median of its passes, memory is the largest
that its process ever held, with torch and the weights. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

LANDMARKS, CENTERS, DIMENSION, BATCH = 81_313, 3, 512, 64
SCALE, MARGIN, SAMPLE = 30.0, 0.3, 0.1
CONTENDERS = ("full", "sampled", "pml")


def make(contender: str) -> nn.Module:
    """Make one head; each process imports only what it measures."""
    if contender == "pml":
        from pytorch_metric_learning.losses import SubCenterArcFaceLoss

        reference: nn.Module = SubCenterArcFaceLoss(
            num_classes=LANDMARKS,
            embedding_size=DIMENSION,
            margin=math.degrees(MARGIN),
            scale=SCALE,
            sub_centers=CENTERS,
        )
        return reference
    from trainer.heads.subcenter_arcface import SubcenterArcFace

    margins = torch.full((LANDMARKS,), MARGIN)
    head = SubcenterArcFace(DIMENSION, margins, centers=CENTERS, scale=SCALE)
    head.sample = SAMPLE if contender == "sampled" else 1.0
    return head


def one_pass(head: nn.Module, embeddings: Tensor, labels: Tensor) -> float:
    """Run forward and backward once; return the seconds."""
    started = time.perf_counter()
    loss = head(embeddings, labels)
    loss.backward()
    seconds = time.perf_counter() - started
    embeddings.grad = None
    head.zero_grad(set_to_none=True)
    return seconds


def measure(contender: str, passes: int) -> dict[str, float]:
    """Measure one head in this process, after one pass that does not count."""
    torch.manual_seed(0)
    head = make(contender)
    embeddings = torch.randn(BATCH, DIMENSION, requires_grad=True)
    labels = torch.randint(0, LANDMARKS, (BATCH,))
    one_pass(head, embeddings, labels)
    seconds = statistics.median(one_pass(head, embeddings, labels) for _ in range(passes))
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"s": round(seconds, 3), "gb": round(kilobytes * 1024 / 1e9, 3)}


def main() -> None:
    """Measure every head in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--passes", type=int, default=7)
    parser.add_argument("--contender", choices=CONTENDERS, help="only this one, in this process")
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(measure(options.contender, options.passes)))
        return
    figures: dict[str, float] = {}
    for contender in CONTENDERS:
        command = [sys.executable, __file__, "--passes", str(options.passes)]
        command += ["--contender", contender]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        found = json.loads(ended.stdout)
        print(f"{contender:8} {found['s']:6.3f} s  {found['gb']:6.3f} GB")
        figures |= {f"{contender}_{unit}": value for unit, value in found.items()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
