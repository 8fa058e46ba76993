"""The cosine of each embedding with each landmark's nearest sub-center.

With few landmarks torch's own operations compute it. With many, what autograd saves (a copy of the
weight scaled to length 1, the cosines with every sub-center, a gradient of each) outgrows the
weight itself; then :class:`_ChunkedCosines` computes it for a chunk of landmarks at a time and
saves one cosine per landmark.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

CHUNKED_FROM = 1 << 22  # elements of a weight; smaller ones gain nothing by chunks
CHUNK = 8192  # landmarks in a chunk: the cosines with their sub-centers fit the cache
_SMALLEST_NORM = 1e-12  # smaller norms count as this, as in ``functional.normalize``


def nearest_cosines(embeddings: Tensor, weight: Tensor, centers: int) -> Tensor:
    """Return the cosine of each embedding with each landmark's nearest sub-center.

    Args:
        embeddings: ``(n, d)``, of any length.
        weight: ``(C·K, d)``, of any length; row ``c·K + j`` is sub-center j of landmark c.
        centers: Sub-centers ``K`` of each landmark.

    Returns:
        ``(n, C)`` in [-1, 1], up to rounding.
    """
    directions = functional.normalize(embeddings)
    if weight.numel() >= CHUNKED_FROM:
        return chunked_cosines(directions, weight, centers)
    rows = functional.linear(directions, functional.normalize(weight))
    return rows.view(len(rows), -1, centers).amax(dim=2)


def chunked_cosines(directions: Tensor, weight: Tensor, centers: int) -> Tensor:
    """Compute :func:`nearest_cosines` in little memory, with equal gradients.

    Args:
        directions: ``(n, d)`` unit rows.
        weight: ``(C·K, d)``, of any length.
        centers: Sub-centers ``K`` of each landmark; at most 256.
    """
    cosines: Tensor = _ChunkedCosines.apply(directions, weight, centers)
    return cosines


def take_rows(weight: Tensor, rows: Tensor) -> Tensor:
    """Take different rows of a large weight: ``(C, w)``, ``(k,)`` → ``(k, w)``.

    The gradient of the other rows is zero, and costs no time and no memory on a CPU until it is
    written to: numpy allocates zeros lazily.
    """
    selected: Tensor = _TakeRows.apply(weight, rows)
    return selected


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:  # noqa: ANN401 - torch's own type
        ctx.save_for_backward(rows)
        ctx.shape = weight.shape
        return weight.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's own type
        (rows,) = ctx.saved_tensors
        if gradient.device.type == "cpu" and gradient.dtype == torch.float32:
            weight_gradient = torch.from_numpy(np.zeros(ctx.shape, np.float32))
        else:
            weight_gradient = gradient.new_zeros(ctx.shape)
        return weight_gradient.index_copy_(0, rows, gradient), None


class _ChunkedCosines(torch.autograd.Function):
    """Cosines for a chunk of landmarks at a time.

    For the gradient it saves one cosine and the number of the nearest sub-center per picture and
    landmark, and the norm of each sub-center. With ``ŵ = w/|w|``, a gradient ``g`` of the
    cosine ``x̂·ŵ`` gives ``g·ŵ`` for x̂ and ``g·(x̂ - cos·ŵ)/|w|`` for w; summed over the pictures,
    the second is one matrix product and a multiple of w.
    """

    @staticmethod
    def forward(ctx: Any, directions: Tensor, weight: Tensor, centers: int) -> Tensor:  # noqa: ANN401 - torch's own type
        n, landmarks = len(directions), len(weight) // centers
        inverse = weight.norm(dim=1).clamp_min_(_SMALLEST_NORM).reciprocal_()
        cosines = directions.new_empty(n, landmarks)
        nearest = torch.empty(n, landmarks, dtype=torch.uint8, device=weight.device)
        for columns, rows in _chunks(landmarks, centers):
            every = (directions @ weight[rows].T).mul_(inverse[rows])
            cosines[:, columns], nearest[:, columns] = every.view(n, -1, centers).max(dim=2)
        ctx.save_for_backward(directions, weight, inverse, cosines, nearest)
        ctx.centers = centers
        return cosines

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401 - torch's own type
        directions, weight, inverse, cosines, nearest = ctx.saved_tensors
        centers, (n, landmarks) = ctx.centers, cosines.shape
        direction_gradient = torch.zeros_like(directions)
        weight_gradient = torch.empty_like(weight)
        for columns, rows in _chunks(landmarks, centers):
            g = gradient[:, columns]
            zeros = g.new_zeros(*g.shape, centers)
            index = nearest[:, columns, None].long()
            to_nearest = zeros.scatter(2, index, g[:, :, None])
            along = zeros.scatter_(2, index, (g * cosines[:, columns])[:, :, None])
            scale = inverse[rows]
            pull = to_nearest.view(n, -1).mul_(scale)
            direction_gradient.addmm_(pull, weight[rows])
            back = along.view(n, -1).sum(0).mul_(scale).mul_(scale)
            torch.mul(weight[rows], back.neg_()[:, None], out=weight_gradient[rows])
            weight_gradient[rows].addmm_(pull.T, directions)
        return direction_gradient, weight_gradient, None


def _chunks(landmarks: int, centers: int) -> Iterator[tuple[slice, slice]]:
    """Yield for each chunk its landmarks, and the rows of their sub-centers."""
    for first in range(0, landmarks, CHUNK):
        last = min(first + CHUNK, landmarks)
        yield slice(first, last), slice(first * centers, last * centers)
