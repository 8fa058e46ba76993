"""Backbone → pooling → neck: the network that turns pictures into embeddings.

The only module that imports timm.
"""

from __future__ import annotations

import logging
from pathlib import Path

import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from embedder.errors import ArtifactDamagedError, ArtifactMissingError, Fault, RecipeError
from trainer.recipe import AverageRecipe, GemRecipe, NeckRecipe, NetworkRecipe

_log = logging.getLogger(__name__)


class Average(nn.Module):
    """Mean over all positions: ``(n, c, h, w)`` → ``(n, c)`` float32."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool."""
        return features.float().mean((2, 3))


class GeM(nn.Module):
    """Generalized mean pooling: ``(n, c, h, w)`` → ``(n, c)`` float32.

    ``(mean x^p)^(1/p)`` over the positions (Radenović et al., *Fine-tuning CNN Image Retrieval
    with No Human Annotation*, 2018). Features are raised to a small positive floor, since a power
    of a negative number is not a number, and divided by the largest first, since a power of a
    large one overflows.

    Args:
        p: First exponent.
        trained: Whether the exponent is learned.
    """

    floor = 1e-6

    def __init__(self, p: float, *, trained: bool) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p), requires_grad=trained)

    def forward(self, features: Tensor) -> Tensor:
        """Pool."""
        positive = features.float().clamp_min(self.floor)
        largest = positive.amax((2, 3), keepdim=True).detach()
        p = self.p.clamp_min(1.0)
        pooled = (positive / largest).clamp_min(self.floor).pow(p).mean((2, 3)).pow(1 / p)
        return pooled * largest.flatten(1)


class Neck(nn.Sequential):
    """Linear layer and what follows it: ``(n, c)`` → ``(n, dimension)``."""

    def __init__(self, width: int, recipe: NeckRecipe) -> None:
        follows: dict[str, list[nn.Module]] = {
            "nothing": [],
            "swish": [nn.SiLU()],
            "batchnorm": [nn.BatchNorm1d(recipe.dimension)],
            "batchnorm-prelu": [nn.BatchNorm1d(recipe.dimension), nn.PReLU()],
        }
        super().__init__(nn.Linear(width, recipe.dimension), *follows[recipe.after])


class EmbeddingNetwork(nn.Module):
    """A whole embedder as a torch module.

    Args:
        recipe: Its parts.
        weights: Safetensors file of the backbone, in timm's names.

    Raises:
        RecipeError: timm has no such backbone, or no pretrained weights of it.
        ArtifactMissingError: There is no file of weights.
        ArtifactDamagedError: The weights are not of this backbone.
    """

    def __init__(self, recipe: NetworkRecipe, *, weights: Path | None = None) -> None:
        super().__init__()
        self.backbone = _make_backbone(recipe, weights)
        self.pooling = _make_pooling(recipe.pooling)
        self.dropout = nn.Dropout(recipe.dropout)
        self.neck = Neck(_width(self.backbone), recipe.neck)

    def embed_unscaled(self, pictures: Tensor) -> Tensor:
        """Compute embeddings before they are scaled to length 1, as heads take them.

        Args:
            pictures: ``(n, 3, side, side)`` normalized.

        Returns:
            ``(n, d)`` float32.
        """
        pooled = self.dropout(self.pooling(self.backbone(pictures)))
        rows: Tensor = self.neck(pooled)
        return rows.float()

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute unit embeddings ``(n, d)`` of ``(n, 3, side, side)`` pictures."""
        return functional.normalize(self.embed_unscaled(pictures))


def _width(backbone: nn.Module) -> int:
    """Return the number of feature maps that a timm backbone without a classifier gives."""
    width = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    if not isinstance(width, int):
        raise TypeError(f"timm gives {width!r} as the number of features")
    return width


def _make_pooling(recipe: GemRecipe | AverageRecipe) -> nn.Module:
    if isinstance(recipe, AverageRecipe):
        return Average()
    return GeM(recipe.p, trained=recipe.trained)


def _make_backbone(recipe: NetworkRecipe, weights: Path | None) -> nn.Module:
    if not timm.is_model(recipe.backbone.split(".")[0]):
        fault = Fault("network.backbone", f"timm has no model {recipe.backbone!r}")
        raise RecipeError("the recipe", (fault,))
    download = weights is None and recipe.pretrained != "none"
    backbone = _download(recipe) if download else _create(recipe.backbone)
    if weights is not None:
        _load_weights(backbone, weights)
    return backbone


def _create(name: str, *, pretrained: bool = False) -> nn.Module:
    model: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="")
    return model


def _download(recipe: NetworkRecipe) -> nn.Module:
    """Create the backbone with timm's pretrained weights."""
    try:
        return _create(recipe.backbone, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:  # network, hub and missing weights
        reason = f"timm's weights of {recipe.backbone} cannot be had ({type(error).__name__})"
        if recipe.pretrained == "required":
            advice = f"{reason}; name a file by --weights, or set network.pretrained=none"
            raise RecipeError("the recipe", (Fault("network.pretrained", advice),)) from error
        _log.warning("%s; training starts from random weights", reason)
        return _create(recipe.backbone)


def _load_weights(backbone: nn.Module, path: Path) -> None:
    try:
        state = safetensors.torch.load_file(path)
    except FileNotFoundError as error:
        raise ArtifactMissingError(path) from error
    except (SafetensorError, OSError) as error:
        raise ArtifactDamagedError(path, "it is not a safetensors file") from error
    wanted = backbone.state_dict()
    lacking = [
        name
        for name, tensor in wanted.items()
        if name not in state or state[name].shape != tensor.shape
    ]
    if lacking:
        reason = f"it lacks {len(lacking)} tensors of this backbone, first {lacking[0]}"
        raise ArtifactDamagedError(path, reason)
    backbone.load_state_dict({name: state[name] for name in wanted})
