"""Linear layers behind a network: whitenings, and others learned from its vectors.

:func:`learn_whitening` is that of Jégou and Chum, *Negative evidences and co-occurences in image
retrieval: the benefit of PCA and whitening*, ECCV 2012: the mean is subtracted, and the principal
directions of large variance no longer dominate the others. :func:`learn_supervised_whitening` is
that of Mikolajczyk and Matas, *Improving descriptors for fast tree matching by optimal linear
projection*, ICCV 2007.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from embedder.errors import ArtifactDamagedError, TrainingError
from trainer.model import checkpoint
from trainer.recipe import WhitenRecipe

_VARIANCE_FLOOR = 1e-6  # smaller fractions of the largest variance are noise, raised to this one


class LinearAdapter(nn.Module):
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
        """Length of an adapted vector."""
        return len(self.weight)

    def first(self, dimension: int) -> "LinearAdapter":
        """Return the adapter that gives the first numbers of each vector."""
        return LinearAdapter(self.mean, self.weight[:dimension])

    def forward(self, rows: Tensor) -> Tensor:
        """Adapt."""
        return functional.linear(rows - self.mean, self.weight)


def learn_whitening(rows: NDArray[np.float32], recipe: WhitenRecipe) -> LinearAdapter:
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
    return LinearAdapter(torch.from_numpy(mean).float(), torch.from_numpy(weight).float())


def learn_supervised_whitening(
    rows: NDArray[np.float32], labels: NDArray[np.integer], *, shrink: float
) -> LinearAdapter:
    """Learn a whitening of what differs between pictures of the same landmark.

    With ``S`` the covariance within landmarks (half of the mean ``(a - b)(a - b)ᵀ`` over pairs of
    a landmark, each picture counting alike), the rows are the principal directions, largest
    variance first, of vectors that ``S`` no longer stretches: those along which landmarks differ
    most for how much their own pictures do. Like variances of :func:`learn_whitening`, those of
    ``S`` are shrunk towards their mean.

    Args:
        rows: ``(n, d)`` unit rows.
        labels: ``(n,)``, the landmark of each.
        shrink: In (0, 1].

    Returns:
        ``d`` numbers → ``d`` numbers.

    Raises:
        TrainingError: No landmark has two different pictures.
    """
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    centers = np.zeros((len(counts), rows.shape[1]))
    np.add.at(centers, numbers, rows)
    residuals = rows - (centers / counts[:, None])[numbers]
    within = residuals.T @ residuals
    average = np.trace(within) / len(within)
    if average < np.finfo(np.float64).eps:
        raise TrainingError("a supervised whitening needs different pictures of one landmark")
    shrunk = (1 - shrink) * within / average + shrink * np.eye(len(within))
    inverse_root = np.linalg.inv(np.linalg.cholesky(shrunk))
    mean = rows.mean(axis=0, dtype=np.float64)
    stretched = (rows - mean) @ inverse_root.T
    _, directions = np.linalg.eigh(stretched.T @ stretched)
    weight = directions[:, ::-1].T @ inverse_root
    return LinearAdapter(torch.from_numpy(mean).float(), torch.from_numpy(weight).float())


def save_whitening(path: Path, whitening: LinearAdapter) -> None:
    """Write the whitening of a run."""
    checkpoint.save(path, whitening.state_dict(), {})


def load_whitening(path: Path) -> LinearAdapter:
    """Read the whitening of a run.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactDamagedError: It is not a whitening.
    """
    tensors, _ = checkpoint.load(path)
    try:
        return LinearAdapter(tensors["mean"], tensors["weight"])
    except KeyError as error:
        raise ArtifactDamagedError(path, "it is not the whitening of a run") from error
