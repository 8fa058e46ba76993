"""Train a linear layer on the vectors of a network that stays as it is."""

import math
from collections.abc import Iterator
from itertools import chain, count, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.heads.cosface import CosFace
from trainer.model.adapter import LinearAdapter

_SCALE = 16.0
_RATE, _DECAY = 3e-4, 1e-6
_BATCH, _EPOCHS, _FEWEST_STEPS = 128, 2, 60


def learn_linear_layer(
    start: LinearAdapter, rows: NDArray[np.float32], labels: NDArray[np.int64]
) -> LinearAdapter:
    """Train an adapter further, so that it tells landmarks apart by their cosines.

    Source of the loss, cosine softmax without a margin, and of the optimizer: the adapter of
    *ILIAS: Instance-Level Image Retrieval At Scale*, CVPR 2025, which starts at random.

    Args:
        start: What the layer is at first.
        rows: ``(n, d)`` unit rows.
        labels: ``(n,)``, the landmark of each, from 0 up; each has a row.

    Returns:
        An adapter with the mean and the dimension of ``start``.
    """
    with torch.no_grad():
        vectors = nn.functional.normalize(start(torch.from_numpy(rows)))
    classes = torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = CosFace(start.dimension, int(labels.max()) + 1, scale=_SCALE, margin=0.0)
        _start_at_centers(head, vectors, classes)
        layer = nn.Parameter(torch.eye(start.dimension))
        optimizer = torch.optim.Adam([layer, *head.parameters()], lr=_RATE, weight_decay=_DECAY)
        for batch in _batches(len(rows)):
            optimizer.zero_grad()
            head(vectors[batch] @ layer.T, classes[batch]).backward()
            optimizer.step()
    return LinearAdapter(start.mean, layer.detach() @ start.weight)


@torch.no_grad()
def _start_at_centers(head: CosFace, vectors: Tensor, classes: Tensor) -> None:
    """Start at the mean of each landmark's vectors: a random head would first turn the layer."""
    sums = torch.zeros_like(head.weight).index_add_(0, classes, vectors)
    head.weight.copy_(sums / torch.bincount(classes)[:, None])


def _batches(n: int) -> Iterator[Tensor]:
    """Yield the places of each batch, in an order drawn anew for each epoch."""
    per_epoch = math.ceil(n / _BATCH)
    epochs = (torch.randperm(n).chunk(per_epoch) for _ in count())
    return islice(chain.from_iterable(epochs), max(_FEWEST_STEPS, _EPOCHS * per_epoch))
