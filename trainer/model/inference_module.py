"""The network as it is exported: several views of a picture, their mean, and its whitening.

The whitening is that of Jégou and Chum, *Negative evidences and co-occurences in image retrieval:
the benefit of PCA and whitening*, ECCV 2012: the mean is subtracted, and the principal directions
of large variance no longer dominate the others.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from embedder.errors import ArtifactDamagedError, TrainingError
from trainer.model import checkpoint
from trainer.recipe import View, WhitenRecipe

_VARIANCE_FLOOR = 1e-6  # smaller fractions of the largest variance are noise, raised to this one
_VIEWS: Mapping[View, Callable[[Tensor], Tensor]] = {
    "plain": lambda pictures: pictures,
    "mirrored": lambda pictures: pictures.flip(3),
}


class Whitening(nn.Module):
    """Subtract the mean, then a linear layer: ``(n, d)`` → ``(n, dimension)``, not unit rows.

    The weight ``(dimension, d)`` is rounded to bfloat16, as :mod:`trainer.model.bf16_rounding`
    rounds all others.
    """

    mean: Tensor
    weight: Tensor

    def __init__(self, mean: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("weight", weight.bfloat16().float())

    @property
    def dimension(self) -> int:
        """Length of a whitened vector."""
        return len(self.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """Whiten."""
        return functional.linear(rows - self.mean, self.weight)


def learn_whitening(rows: NDArray[np.float32], recipe: WhitenRecipe) -> Whitening:
    """Learn a whitening from the embeddings of pictures.

    Its rows are the principal directions of the covariance, largest variance first, each divided
    by the square root of its variance ``v`` after shrinking that towards the mean variance:
    ``(1 - shrink)·v + shrink·mean``.

    ``rows`` are ``(n, d)`` unit rows.

    Raises:
        TrainingError: There are too few rows for the dimension.
    """
    n, d = rows.shape
    dimension = recipe.dimension or min(d, n - 1)
    if not 2 <= dimension <= min(d, n - 1):
        raise TrainingError(
            f"vectors of {d} numbers from {n} pictures cannot be whitened to {dimension}: "
            "there must be more pictures than numbers, and no more numbers than before"
        )
    mean = rows.mean(axis=0, dtype=np.float64)
    centered = rows - mean
    variances, directions = np.linalg.eigh(centered.T @ centered / (n - 1))
    average = variances.mean()
    shrunk = (1 - recipe.shrink) * variances + recipe.shrink * average
    largest = np.argsort(-variances, kind="stable")[:dimension]
    inverse_roots = np.sqrt(average / np.maximum(shrunk, _VARIANCE_FLOOR * shrunk.max()))
    weight = (directions * inverse_roots).T[largest]
    return Whitening(torch.from_numpy(mean).float(), torch.from_numpy(weight).float())


def save_whitening(path: Path, whitening: Whitening) -> None:
    """Write the whitening of a run."""
    checkpoint.save(path, whitening.state_dict(), {})


def load_whitening(path: Path) -> Whitening:
    """Read the whitening of a run.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactDamagedError: It is not a whitening.
    """
    tensors, _ = checkpoint.load(path)
    try:
        return Whitening(tensors["mean"], tensors["weight"])
    except KeyError as error:
        raise ArtifactDamagedError(path, "it is not the whitening of a run") from error


class ViewEmbeddings(nn.Module):
    """Embed several views of a picture as one larger batch."""

    def __init__(self, network: nn.Module, views: Sequence[View]) -> None:
        super().__init__()
        self.network = network
        self.views = tuple(views)

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute ``(n, views, d)`` of ``(n, 3, side, side)`` pictures."""
        rows: Tensor = self.network(torch.cat([_VIEWS[view](pictures) for view in self.views]))
        return rows.reshape(len(self.views), -1, rows.shape[1]).transpose(0, 1)


def combine_views(rows: Tensor, whitening: Whitening | None) -> Tensor:
    """Reduce the embeddings of a picture's views to its unit embedding.

    ``(n, views, d)`` unit rows → ``(n, dimension)`` unit rows; the whitening applies to the mean.
    """
    means = functional.normalize(rows.sum(dim=1)) if rows.shape[1] > 1 else rows[:, 0]
    return means if whitening is None else functional.normalize(whitening(means))


class InferenceModule(nn.Module):
    """What is exported: a network that gives unit rows, all its views, and its whitening."""

    def __init__(
        self,
        network: nn.Module,
        views: Sequence[View] = ("plain",),
        whitening: Whitening | None = None,
    ) -> None:
        super().__init__()
        self.embed_views = ViewEmbeddings(network, views)
        self.whitening = whitening

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute unit embeddings ``(n, dimension)`` of ``(n, 3, side, side)`` pictures."""
        return combine_views(self.embed_views(pictures), self.whitening)
