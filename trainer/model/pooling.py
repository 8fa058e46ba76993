"""Pooling: from a backbone's features to one row per picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.recipe.network import AverageRecipe, GridRecipe, PoolingRecipe, TokenRecipe


class Average(nn.Module):
    """Mean over all positions: ``(n, c, h, w)`` → ``(n, c)`` float32."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool."""
        return features.float().mean((2, 3))


class GeM(nn.Module):
    """Generalized mean pooling: ``(n, c, h, w)`` → ``(n, c)`` float32.

    ``(mean x^p)^(1/p)`` over the positions (Radenović et al., *Fine-tuning CNN Image Retrieval
    with No Human Annotation*, 2018). Features are clamped to a small positive floor, since a power
    of a negative number is NaN, and divided by the largest first, since a power of a large one
    overflows.

    ``test_p`` replaces the trained exponent in evaluation.
    """

    floor = 1e-6

    def __init__(self, p: float, *, trained: bool, test_p: float | None = None) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p), requires_grad=trained)
        self.test_p = test_p

    def forward(self, features: Tensor) -> Tensor:
        """Pool."""
        positive = features.float().clamp_min(self.floor)
        largest = positive.amax((2, 3), keepdim=True).detach()
        p = self.p.clamp_min(1.0)
        if self.test_p is not None and not self.training:
            p = torch.full_like(p, self.test_p)
        pooled = (positive / largest).clamp_min(self.floor).pow(p).mean((2, 3)).pow(1 / p)
        return pooled * largest.flatten(1)


class Grid(nn.Module):
    """Means over the cells of a grid: ``(n, c, h, w)`` → ``(n, c·cells²)`` float32."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, features: Tensor) -> Tensor:
        """Pool."""
        return functional.adaptive_avg_pool2d(features.float(), self.cells).flatten(1)


class ClassToken(nn.Module):
    """The first of a transformer's tokens: ``(n, tokens, c)`` → ``(n, c)`` float32."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool."""
        return features[:, 0].float()


def make_pooling(recipe: PoolingRecipe, channels: int) -> tuple[nn.Module, int]:
    """Make the pooling over a backbone's feature maps; return it with the width of its rows."""
    if isinstance(recipe, GridRecipe):
        return Grid(recipe.cells), channels * recipe.cells**2
    if isinstance(recipe, TokenRecipe):
        return ClassToken(), channels
    if isinstance(recipe, AverageRecipe):
        return Average(), channels
    return GeM(recipe.p, trained=recipe.trained, test_p=recipe.test_p), channels
