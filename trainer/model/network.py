"""Backbone → pooling → neck: the network that turns pictures into embeddings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.model.backbone import make_backbone, require_class_token, submodule
from trainer.recipe import NetworkRecipe
from trainer.recipe.network import (
    AverageRecipe,
    GridRecipe,
    HiddenNeckRecipe,
    LinearNeckRecipe,
    NeckRecipe,
    PoolingRecipe,
    TokenRecipe,
)


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


class EmbeddingNetwork(nn.Module):
    """An embedding network in training.

    Args:
        recipe: Its parts.
        weights: File of the backbone's weights, in timm's names.
        sides: Sides in pixels of the pictures that it will be given; empty: that of timm's
            pretraining, and others as far as the backbone takes them.

    Attributes:
        dimension: Length of the embedding.

    Raises:
        RecipeError: timm has no such backbone, or no pretrained weights of it, it does not take
            pictures of these sides, or lacks a part that the recipe names.
        ArtifactMissingError: There is no file of weights.
        ArtifactDamagedError: The weights are not of this backbone.
    """

    def __init__(
        self, recipe: NetworkRecipe, *, weights: Path | None = None, sides: Sequence[int] = ()
    ) -> None:
        super().__init__()
        made = make_backbone(recipe, weights, sides)
        self.backbone, self.features = made.module, made.features
        self._frozen = recipe.frozen
        for name in self._frozen:
            submodule(self.backbone, name)  # a name that is not there is an error now
        self.pooling, width = _make_pooling(recipe.pooling, self.features.channels)
        if isinstance(self.pooling, ClassToken):
            require_class_token(self.backbone, recipe.backbone)
        self.dropout = nn.Dropout(recipe.dropout)
        self.neck, self.dimension = _make_neck(recipe.neck, width, made.classifier)

    def embed_unnormalized(self, pictures: Tensor) -> Tensor:
        """Compute embeddings before they are scaled to length 1, as heads take them.

        ``(n, 3, side, side)`` normalized pictures → ``(n, d)`` float32.
        """
        features = self.features.compute(self.backbone, pictures)
        if not isinstance(self.pooling, ClassToken):
            features = self.features.as_maps(features)
        rows: Tensor = self.neck(self.dropout(self.pooling(features)))
        return rows.float()

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute unit embeddings ``(n, d)`` of ``(n, 3, side, side)`` pictures."""
        return functional.normalize(self.embed_unnormalized(pictures))

    def set_training_mode(self, *, backbone: bool) -> None:
        """Put all trained parts into training mode, and switch off the gradients of the others.

        Parts of the backbone that the recipe freezes stay so, also if ``backbone`` is true.
        """
        self.train()
        self.backbone.requires_grad_(backbone).train(backbone)
        for name in self._frozen:  # looked up anew: norms may have been replaced since
            submodule(self.backbone, name).requires_grad_(requires_grad=False).eval()

    def fix_input_side(self, side: int) -> None:
        """Resize a transformer's position embedding to one picture side, before export.

        Until then it is resized in every pass, and exported graphs resize differently.
        """
        backbone: Any = self.backbone
        if getattr(backbone, "pos_embed", None) is not None and getattr(
            backbone, "dynamic_img_size", False
        ):
            backbone.set_input_size(img_size=(side, side))


def _make_pooling(recipe: PoolingRecipe, channels: int) -> tuple[nn.Module, int]:
    """Make the pooling over a backbone's feature maps; return it with the width of its rows."""
    if isinstance(recipe, GridRecipe):
        return Grid(recipe.cells), channels * recipe.cells**2
    if isinstance(recipe, TokenRecipe):
        return ClassToken(), channels
    if isinstance(recipe, AverageRecipe):
        return Average(), channels
    return GeM(recipe.p, trained=recipe.trained, test_p=recipe.test_p), channels


def _make_neck(
    recipe: NeckRecipe, width: int, classifier: nn.Linear | None
) -> tuple[nn.Module, int]:
    """Make the neck for pooled features of a width; return it with the length of the embedding."""
    if isinstance(recipe, LinearNeckRecipe):
        following: dict[str, list[nn.Module]] = {
            "nothing": [],
            "swish": [nn.SiLU()],
            "batchnorm": [nn.BatchNorm1d(recipe.dimension)],
            "batchnorm-prelu": [nn.BatchNorm1d(recipe.dimension), nn.PReLU()],
        }
        linear = nn.Linear(width, recipe.dimension)
        return nn.Sequential(linear, *following[recipe.after]), recipe.dimension
    if isinstance(recipe, HiddenNeckRecipe):
        layers = (
            nn.Linear(width, recipe.hidden),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
            nn.Linear(recipe.hidden, recipe.dimension),
        )
        return nn.Sequential(*layers), recipe.dimension
    if classifier is not None:
        return classifier, classifier.out_features
    return nn.Identity(), width
