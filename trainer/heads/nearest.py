"""The cosine of each embedding with each landmark's nearest sub-center, for few and for many.

With few landmarks torch's own operations do it. With many, what they keep for the gradient (a
copy of the weight scaled to length 1, the cosines with every sub-center, a gradient of each)
outgrows the weight itself; then :class:`_LeanCosines` goes through the landmarks in pieces and
keeps one cosine per landmark.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LEAN_FROM = 1 << 22
"""Numbers in a weight from which the lean way is taken; smaller ones gain nothing by it."""

PIECE = 8192
"""Landmarks that are gone through at once; the cosines with their sub-centers fit the cache."""

_SHORTEST = 1e-12
"""Vectors are not scaled up from below this length; the same as in ``functional.normalize``."""


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
    if weight.numel() >= LEAN_FROM:
        return lean_cosines(directions, weight, centers)
    rows = functional.linear(directions, functional.normalize(weight))
    return rows.view(len(rows), -1, centers).amax(dim=2)


def lean_cosines(directions: Tensor, weight: Tensor, centers: int) -> Tensor:
    """Compute what :func:`nearest_cosines` gives in little memory; its gradients are equal.

    Args:
        directions: ``(n, d)`` unit rows.
        weight: ``(C·K, d)``, of any length.
        centers: Sub-centers ``K`` of each landmark; at most 256.
    """
    cosines: Tensor = _LeanCosines.apply(directions, weight, centers)
    return cosines


def take_rows(weight: Tensor, rows: Tensor) -> Tensor:
    """Take different rows of a large weight: ``(C, w)``, ``(k,)`` → ``(k, w)``.

    The gradient of the rows not taken is zero, and costs no time and no memory on a CPU until
    somebody writes to it: numpy leaves untouched zeros to the operating system.
    """
    taken: Tensor = _TakenRows.apply(weight, rows)
    return taken


class _TakenRows(torch.autograd.Function):
    """Rows of a weight, with a gradient that is made of lazy zeros."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:  # noqa: ANN401 - torch's own type
        ctx.save_for_backward(rows)
        ctx.shape = weight.shape
        return weight.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's own type
        (rows,) = ctx.saved_tensors
        if gradient.device.type == "cpu" and gradient.dtype == torch.float32:
            of_weight = torch.from_numpy(np.zeros(ctx.shape, np.float32))
        else:
            of_weight = gradient.new_zeros(ctx.shape)
        return of_weight.index_copy_(0, rows, gradient), None


class _LeanCosines(torch.autograd.Function):
    """Cosines in pieces of landmarks.

    For the gradient it keeps one cosine and the number of the nearest sub-center per picture and
    landmark, and the length of each sub-center. With ``ŵ = w/|w|``, a gradient ``g`` of the
    cosine ``x̂·ŵ`` gives ``g·ŵ`` for x̂ and ``g·(x̂ - cos·ŵ)/|w|`` for w; summed over the pictures,
    the second is one matrix product and a multiple of w.
    """

    @staticmethod
    def forward(ctx: Any, directions: Tensor, weight: Tensor, centers: int) -> Tensor:  # noqa: ANN401 - torch's own type
        n, landmarks = len(directions), len(weight) // centers
        inverse = weight.norm(dim=1).clamp_min_(_SHORTEST).reciprocal_()
        cosines = directions.new_empty(n, landmarks)
        nearest = torch.empty(n, landmarks, dtype=torch.uint8, device=weight.device)
        for first in range(0, landmarks, PIECE):
            last = min(first + PIECE, landmarks)
            rows = slice(first * centers, last * centers)
            every = (directions @ weight[rows].T).mul_(inverse[rows])
            best, which = every.view(n, -1, centers).max(dim=2)
            cosines[:, first:last] = best
            nearest[:, first:last] = which
        ctx.save_for_backward(directions, weight, inverse, cosines, nearest)
        ctx.centers = centers
        return cosines

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401 - torch's own type
        directions, weight, inverse, cosines, nearest = ctx.saved_tensors
        centers, (n, landmarks) = ctx.centers, cosines.shape
        of_directions = torch.zeros_like(directions)
        of_weight = torch.empty_like(weight)
        for first in range(0, landmarks, PIECE):
            last = min(first + PIECE, landmarks)
            rows = slice(first * centers, last * centers)
            g = gradient[:, first:last]
            which = nearest[:, first:last, None].long()
            spread = g.new_zeros(n, last - first, centers).scatter_(2, which, g[:, :, None])
            along = spread.new_zeros(n, last - first, centers)
            along.scatter_(2, which, (g * cosines[:, first:last])[:, :, None])
            share = inverse[rows]
            pull = spread.view(n, -1).mul_(share)
            of_directions.addmm_(pull, weight[rows])
            back = along.view(n, -1).sum(0).mul_(share).mul_(share)
            torch.mul(weight[rows], back.neg_()[:, None], out=of_weight[rows])
            of_weight[rows].addmm_(pull.T, directions)
        return of_directions, of_weight, None
