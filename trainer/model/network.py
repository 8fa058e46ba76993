"""Backbone → pooling → neck: the network that turns pictures into embeddings.

The only module that imports timm.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from embedder.errors import ArtifactDamagedError, ArtifactMissingError, Fault, RecipeError
from embedder.manifest import Fit, Interpolation, Preprocess
from trainer.model.six_convolutions import NAME as SIX_CONVOLUTIONS
from trainer.model.six_convolutions import SixConvolutions
from trainer.recipe import (
    AverageRecipe,
    ClassifierNeckRecipe,
    GridRecipe,
    HiddenNeckRecipe,
    LinearNeckRecipe,
    NeckRecipe,
    NetworkRecipe,
    PoolingRecipe,
    TokenRecipe,
)

_FITS = {"center": Fit.CENTER_CROP, "squash": Fit.SQUASH, "border": Fit.PAD}
"""What timm's ways of cropping are called here."""

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
        test_p: Exponent in evaluation, in place of that one.
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
    """Means over the cells of a grid: ``(n, c, h, w)`` → ``(n, c·cells²)`` float32.

    Args:
        cells: Along each side, whatever the side of the maps.
    """

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


class Neck(nn.Sequential):
    """Linear layer and what follows it: ``(n, c)`` → ``(n, dimension)``."""

    def __init__(self, width: int, recipe: LinearNeckRecipe) -> None:
        follows: dict[str, list[nn.Module]] = {
            "nothing": [],
            "swish": [nn.SiLU()],
            "batchnorm": [nn.BatchNorm1d(recipe.dimension)],
            "batchnorm-prelu": [nn.BatchNorm1d(recipe.dimension), nn.PReLU()],
        }
        super().__init__(nn.Linear(width, recipe.dimension), *follows[recipe.after])


class HiddenNeck(nn.Sequential):
    """Two linear layers: ``(n, c)`` → ``(n, dimension)``."""

    def __init__(self, width: int, recipe: HiddenNeckRecipe) -> None:
        super().__init__(
            nn.Linear(width, recipe.hidden),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
            nn.Linear(recipe.hidden, recipe.dimension),
        )


class EmbeddingNetwork(nn.Module):
    """A whole embedder as a torch module.

    Args:
        recipe: Its parts.
        weights: Safetensors file of the backbone, in timm's names.

    Attributes:
        dimension: Length of the embedding.

    Raises:
        RecipeError: timm has no such backbone, or no pretrained weights of it, or the backbone
            has no part that is to be frozen.
        ArtifactMissingError: There is no file of weights.
        ArtifactDamagedError: The weights are not of this backbone.
    """

    def __init__(self, recipe: NetworkRecipe, *, weights: Path | None = None) -> None:
        super().__init__()
        self.backbone, classifier = _make_backbone(recipe, weights)
        self._frozen = recipe.frozen
        for name in self._frozen:
            _part(self.backbone, name)
        self._channels = _width(self.backbone)
        if isinstance(recipe.pooling, TokenRecipe) and not _has_class_token(self.backbone):
            fault = Fault("network.pooling", f"{recipe.backbone} has no class token")
            raise RecipeError("the recipe", (fault,))
        self.pooling = _make_pooling(recipe.pooling)
        self.dropout = nn.Dropout(recipe.dropout)
        pooled = recipe.pooling
        width = self._channels * (pooled.cells**2 if isinstance(pooled, GridRecipe) else 1)
        self.neck, self.dimension = _make_neck(recipe.neck, width, classifier)

    def embed_unscaled(self, pictures: Tensor) -> Tensor:
        """Compute embeddings before they are scaled to length 1, as heads take them.

        Args:
            pictures: ``(n, 3, side, side)`` normalized.

        Returns:
            ``(n, d)`` float32.
        """
        features = self.backbone(pictures)
        if not isinstance(self.pooling, ClassToken):
            features = self._as_maps(features)
        rows: Tensor = self.neck(self.dropout(self.pooling(features)))
        return rows.float()

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute unit embeddings ``(n, d)`` of ``(n, 3, side, side)`` pictures."""
        return functional.normalize(self.embed_unscaled(pictures))

    def prepare_to_learn(self, *, backbone: bool) -> None:
        """Put everything that learns into training mode, and let nothing else have gradients.

        Args:
            backbone: Whether the backbone learns, but for the parts that the recipe freezes.
        """
        self.train()
        self.backbone.requires_grad_(backbone).train(backbone)
        for name in self._frozen:  # by name: another norm may stand there by now
            _part(self.backbone, name).requires_grad_(requires_grad=False).eval()

    def fix_side(self, side: int) -> None:
        """Make a transformer's table of positions fit one picture side, before it is exported.

        Until then the table is resized in every pass, and exported graphs resize differently.
        """
        if getattr(self.backbone, "pos_embed", None) is not None:
            backbone: Any = self.backbone
            backbone.set_input_size(img_size=(side, side))

    def _as_maps(self, features: Tensor) -> Tensor:
        """Bring what backbones give to ``(n, c, h, w)``; tokens lie along the height."""
        if features.ndim == 3:  # a transformer's tokens; the first ones stand for no place
            prefix = int(getattr(self.backbone, "num_prefix_tokens", 0))
            return features[:, prefix:].transpose(1, 2).unsqueeze(-1)
        if features.shape[1] != self._channels:  # channels last
            return features.permute(0, 3, 1, 2)
        return features


def pretrained_preprocess(backbone: str, side: int | None = None) -> Preprocess:
    """Tell how pictures were prepared for a backbone when it was pretrained.

    Args:
        backbone: timm's name.
        side: Another picture side than it was pretrained with, in pixels.

    Raises:
        RecipeError: timm knows no such backbone.
    """
    try:
        known = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    except RuntimeError:  # no such weights of a model that there is
        known = None
    if known is None:
        fault = Fault("network.backbone", f"timm knows no pretrained {backbone!r}")
        raise RecipeError("the embedder", (fault,))
    fit = _FITS[known.crop_mode]
    return Preprocess(
        side=side or max(known.input_size[1:]),
        fit=fit,
        crop=known.crop_pct if fit is Fit.CENTER_CROP else 1.0,
        interpolation=Interpolation(known.interpolation),
        mean=known.mean,
        std=known.std,
    )


def _width(backbone: nn.Module) -> int:
    """Return the number of feature maps that a timm backbone without a classifier gives."""
    width = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    if not isinstance(width, int):
        raise TypeError(f"timm gives {width!r} as the number of features")
    return width


def _part(backbone: nn.Module, name: str) -> nn.Module:
    try:
        return backbone.get_submodule(name)
    except AttributeError as error:
        parts = ", ".join(child for child, _ in backbone.named_children())
        fault = Fault("network.frozen", f"the backbone has no part {name!r}; its parts: {parts}")
        raise RecipeError("the recipe", (fault,)) from error


def _has_class_token(backbone: nn.Module) -> bool:
    return getattr(backbone, "cls_token", None) is not None


def _make_pooling(recipe: PoolingRecipe) -> nn.Module:
    if isinstance(recipe, TokenRecipe):
        return ClassToken()
    if isinstance(recipe, AverageRecipe):
        return Average()
    if isinstance(recipe, GridRecipe):
        return Grid(recipe.cells)
    return GeM(recipe.p, trained=recipe.trained, test_p=recipe.test_p)


def _make_neck(
    recipe: NeckRecipe, width: int, classifier: nn.Module | None
) -> tuple[nn.Module, int]:
    """Make the neck; return it with the length of its embeddings."""
    if isinstance(recipe, LinearNeckRecipe):
        return Neck(width, recipe), recipe.dimension
    if isinstance(recipe, HiddenNeckRecipe):
        return HiddenNeck(width, recipe), recipe.dimension
    if isinstance(classifier, nn.Linear):
        return classifier, classifier.out_features
    return nn.Identity(), width


def _make_backbone(
    recipe: NetworkRecipe, weights: Path | None
) -> tuple[nn.Module, nn.Module | None]:
    """Make the backbone, and its own classifier if that is the neck."""
    name = recipe.backbone
    ours = name == SIX_CONVOLUTIONS
    if not ours and not timm.is_model(name.split(".")[0]):
        raise RecipeError("the recipe", (Fault("network.backbone", f"timm has no model {name!r}"),))
    classified = isinstance(recipe.neck, ClassifierNeckRecipe)
    if weights is None and recipe.pretrained != "none":
        backbone = _download(recipe, classified=classified)
    else:
        backbone = _create(name, classified=classified)
    if weights is not None:
        _load_weights(backbone, weights)
    return backbone, _take_classifier(backbone, name) if classified else None


def _take_classifier(backbone: Any, name: str) -> nn.Module:  # noqa: ANN401 - timm's methods
    """Take the classifier off a backbone."""
    classifier = backbone.get_classifier() if hasattr(backbone, "get_classifier") else None
    if not isinstance(classifier, nn.Linear):
        fault = Fault("network.neck", f"{name} has no linear classifier that could be kept")
        raise RecipeError("the recipe", (fault,))
    backbone.reset_classifier(0, global_pool="")
    return classifier


def _create(name: str, *, classified: bool = False, pretrained: bool = False) -> nn.Module:
    """Create a backbone that gives all its features; ``classified`` leaves its classifier on."""
    if name == SIX_CONVOLUTIONS:
        return SixConvolutions()
    options: dict[str, Any] = {} if classified else {"num_classes": 0, "global_pool": ""}
    configuration = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if configuration and configuration.fixed_input_size:  # unless told, at one size only
        options["dynamic_img_size"] = True
    model: nn.Module = timm.create_model(name, pretrained=pretrained, **options)
    return model


def _download(recipe: NetworkRecipe, *, classified: bool) -> nn.Module:
    """Create the backbone with timm's pretrained weights."""
    name, cause = recipe.backbone, None
    reason = f"timm has no pretrained weights of {name}"
    if timm.is_model_pretrained(name):
        try:
            return _create(name, classified=classified, pretrained=True)
        except (OSError, RuntimeError, ValueError) as error:  # network and hub
            reason = f"timm's weights of {name} cannot be had ({type(error).__name__})"
            cause = error
    if recipe.pretrained == "required":
        advice = f"{reason}; name a file by --weights, or set network.pretrained=none"
        raise RecipeError("the recipe", (Fault("network.pretrained", advice),)) from cause
    _log.warning("%s; training starts from random weights", reason)
    return _create(name, classified=classified)


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
