"""The backbone: timm's models, their pretrained weights and how these expect a picture.

The only module that imports timm.
"""

import itertools
import logging
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
from safetensors import SafetensorError
from torch import nn

from embedder.errors import ArtifactDamagedError, ArtifactMissingError, Fault, RecipeError
from embedder.manifest import Fit, Interpolation, Preprocess
from trainer.recipe import NetworkRecipe
from trainer.recipe.network import ClassifierNeckRecipe

# timm's crop modes.
_FITS = {"center": Fit.CENTER_CROP, "squash": Fit.SQUASH, "border": Fit.PAD}
_SIX_CONVOLUTIONS = "six_convolutions"

_log = logging.getLogger(__name__)


class SixConvolutions(nn.Sequential):
    """Six convolutions, each with a ReLU and a max-pool.

    ``(n, 3, side, side)`` → ``(n, 256, side/64, side/64)``. Designed for pictures of
    800 × 800 pixels; any side from 64 up works.
    """

    num_features = 256

    def __init__(self) -> None:
        widths = (3, 16, 32, 64, 128, 256, self.num_features)
        layers: list[nn.Module] = []
        for i, o in itertools.pairwise(widths):
            layers += [nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        super().__init__(*layers)


def make_backbone(
    recipe: NetworkRecipe, weights: Path | None
) -> tuple[nn.Module, nn.Linear | None]:
    """Make the backbone of a recipe, and its own classifier if that is the neck.

    Args:
        recipe: Names the backbone.
        weights: Safetensors file in timm's names; None does as ``recipe.pretrained`` says.

    Raises:
        RecipeError: timm has no such model, no pretrained weights of it, or it has no classifier.
        ArtifactMissingError: There is no file of weights.
        ArtifactDamagedError: The weights are not of this backbone.
    """
    name = recipe.backbone
    if name != _SIX_CONVOLUTIONS and not timm.is_model(name.split(".")[0]):
        raise _recipe_error("network.backbone", f"timm has no model {name!r}")
    with_classifier = isinstance(recipe.neck, ClassifierNeckRecipe)
    if weights is None and recipe.pretrained != "none":
        backbone = _create_pretrained(recipe, with_classifier=with_classifier)
    else:
        backbone = _create(name, with_classifier=with_classifier)
    if weights is not None:
        _load_weights(backbone, weights)
    return backbone, _detach_classifier(backbone, name) if with_classifier else None


def pretrained_preprocess(backbone: str, side: int | None = None) -> Preprocess:
    """Return how pictures were preprocessed when a backbone was pretrained.

    Args:
        backbone: timm's name.
        side: Overrides the side in pixels of the pictures of the pretraining.

    Raises:
        RecipeError: timm knows no such backbone.
    """
    try:
        known = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    except RuntimeError:  # the model exists, these weights of it do not
        known = None
    if known is None:
        raise _recipe_error("network.backbone", f"timm knows no pretrained {backbone!r}")
    fit = _FITS[known.crop_mode]
    return Preprocess(
        side=side or max(known.input_size[1:]),
        fit=fit,
        crop=known.crop_pct if fit is Fit.CENTER_CROP else 1.0,
        interpolation=Interpolation(known.interpolation),
        mean=known.mean,
        std=known.std,
        color_profiles=True,
    )


def channels_of(backbone: nn.Module) -> int:
    """Return the number of feature maps that a timm backbone without a classifier gives."""
    channels = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    if not isinstance(channels, int):
        raise TypeError(f"timm gives {channels!r} as the number of features")
    return channels


def submodule(backbone: nn.Module, name: str) -> nn.Module:
    """Return a part of a backbone by its name in timm.

    Raises:
        RecipeError: There is no such part; the message lists those that there are.
    """
    try:
        return backbone.get_submodule(name)
    except AttributeError as error:
        parts = ", ".join(child for child, _ in backbone.named_children())
        reason = f"the backbone has no part {name!r}; its parts: {parts}"
        raise _recipe_error("network.frozen", reason) from error


def require_class_token(backbone: nn.Module, name: str) -> None:
    """Raise a RecipeError for a backbone without a class token."""
    if getattr(backbone, "cls_token", None) is None:
        raise _recipe_error("network.pooling", f"{name} has no class token")


def _recipe_error(path: str, reason: str) -> RecipeError:
    return RecipeError("the recipe", (Fault(path, reason),))


def _detach_classifier(backbone: Any, name: str) -> nn.Linear:  # noqa: ANN401 - timm's methods
    classifier = backbone.get_classifier() if hasattr(backbone, "get_classifier") else None
    if not isinstance(classifier, nn.Linear):
        raise _recipe_error("network.neck", f"{name} has no linear classifier to use as the neck")
    backbone.reset_classifier(0, global_pool="")
    return classifier


def _create(name: str, *, with_classifier: bool, pretrained: bool = False) -> nn.Module:
    """Create a backbone that gives unpooled features, or one with its classifier."""
    if name == _SIX_CONVOLUTIONS:
        return SixConvolutions()
    options: dict[str, Any] = {} if with_classifier else {"num_classes": 0, "global_pool": ""}
    configuration = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if configuration and configuration.fixed_input_size:
        options["dynamic_img_size"] = True  # otherwise it takes pictures of one size only
    model: nn.Module = timm.create_model(name, pretrained=pretrained, **options)
    return model


def _create_pretrained(recipe: NetworkRecipe, *, with_classifier: bool) -> nn.Module:
    """Create a backbone with timm's pretrained weights, or by ``preferred`` without them."""
    name, cause = recipe.backbone, None
    reason = f"timm has no pretrained weights of {name}"
    if timm.is_model_pretrained(name):
        try:
            return _create(name, with_classifier=with_classifier, pretrained=True)
        except (OSError, RuntimeError, ValueError) as error:  # network and hub
            reason = f"timm's weights of {name} cannot be loaded ({type(error).__name__})"
            cause = error
    if recipe.pretrained == "required":
        advice = f"{reason}; name a file by --weights, or set network.pretrained=none"
        raise _recipe_error("network.pretrained", advice) from cause
    _log.warning("%s; training starts from random weights", reason)
    return _create(name, with_classifier=with_classifier)


def _load_weights(backbone: nn.Module, path: Path) -> None:
    """Load a backbone's weights; other tensors in the file are ignored."""
    try:
        state = safetensors.torch.load_file(path)
    except FileNotFoundError as error:
        raise ArtifactMissingError(path) from error
    except (SafetensorError, OSError) as error:
        raise ArtifactDamagedError(path, "it is not a safetensors file") from error
    expected = backbone.state_dict()
    missing = [n for n, t in expected.items() if n not in state or state[n].shape != t.shape]
    if missing:
        reason = f"it lacks {len(missing)} tensors of this backbone, first {missing[0]}"
        raise ArtifactDamagedError(path, reason)
    backbone.load_state_dict({name: state[name] for name in expected})
