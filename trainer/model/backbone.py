"""The backbone: timm's models, their pretrained weights and how these expect a picture.

The only module that imports timm.
"""

import functools
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import nn

from embedder.errors import Fault, RecipeError
from embedder.manifest import Fit, Interpolation, Preprocess
from trainer.model.features import FAULTS, Features, UnsuitableError, find_features
from trainer.model.weights_file import load_weights
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


_Head = Literal["kept", "unpooled", "removed"]


@dataclass(frozen=True)
class _Variant:
    """One way to make a backbone by timm.

    Attributes:
        head: ``kept`` with its classifier, which is the neck; ``unpooled`` where timm can switch
            off classifier and pooling, otherwise ``removed``.
        options: Of timm for the size of the pictures.
    """

    head: _Head
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Backbone:
    """A backbone, what it gives, and its own classifier if that is the neck."""

    module: nn.Module
    features: Features
    classifier: nn.Linear | None


def make_backbone(recipe: NetworkRecipe, weights: Path | None, sides: Sequence[int]) -> Backbone:
    """Make the backbone of a recipe.

    Args:
        recipe: Names the backbone.
        weights: File of its weights in timm's names; None does as ``recipe.pretrained`` says.
        sides: Sides in pixels of the pictures that it will be given; empty: that of timm's
            pretraining, and others as far as it takes them.

    Raises:
        RecipeError: timm has no such model, no pretrained weights of it, it does not take
            pictures of these sides, or it has no classifier.
        ArtifactMissingError: There is no file of weights.
        ArtifactDamagedError: The weights are not of this backbone.
    """
    name = recipe.backbone
    if name != _SIX_CONVOLUTIONS and not timm.is_model(name.split(".")[0]):
        raise _recipe_error("network.backbone", f"timm has no model {name!r}")
    with_classifier = isinstance(recipe.neck, ClassifierNeckRecipe)
    heads: tuple[_Head, ...] = ("kept",) if with_classifier else ("unpooled", "removed")
    variant, features = _choose_variant(name, tuple(sorted(set(sides))), heads)
    if weights is not None:
        module = _create_with(name, variant, weights)
    elif recipe.pretrained != "none":
        module = _create_pretrained(recipe, variant)
    else:
        module = _create(name, variant)
    classifier = _detach_classifier(module, name) if with_classifier else None
    return Backbone(module, features, classifier)


def pretrained_preprocess(backbone: str, side: int | None = None) -> Preprocess:
    """Return how pictures were preprocessed when a backbone was pretrained.

    Args:
        backbone: timm's name.
        side: Overrides the side in pixels of the pictures of the pretraining.

    Raises:
        RecipeError: timm knows no such backbone.
    """
    known = _configuration(backbone)
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


def pretrained_license(backbone: str) -> str | None:
    """Return the license that timm states for a backbone's weights; None where it states none."""
    known = _configuration(backbone)
    return known.license if known else None


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


def _configuration(name: str) -> Any:  # noqa: ANN401 - timm's own
    """Return what timm knows of the pretraining of a model; None where it knows nothing."""
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:  # the model exists, these weights of it do not
        return None


def _recipe_error(path: str, reason: str) -> RecipeError:
    return RecipeError("the recipe", (Fault(path, reason),))


@functools.cache
def _choose_variant(
    name: str, sides: tuple[int, ...], heads: tuple[_Head, ...]
) -> tuple[_Variant, Features]:
    """Find the first way to make a backbone in which it takes pictures of all sides.

    Raises:
        RecipeError: There is none.
    """
    try:
        return _find_variant(name, sides or (_pretrained_side(name),), heads)
    except UnsuitableError as error:
        reason = f"{name} {error.reason}"
        if error.side is not None:
            reason += _advice(name, error.side, heads)
        if len(sides) > 1:
            reason += f"; the recipe asks for {', '.join(map(str, sides))}"
        raise _recipe_error("network.backbone", reason) from error


def _find_variant(
    name: str, sides: tuple[int, ...], heads: tuple[_Head, ...]
) -> tuple[_Variant, Features]:
    refused = UnsuitableError("cannot be made by this version of timm")
    for variant in _variants(name, sides, heads):
        try:
            with torch.device("meta"):
                module = _create(name, variant)
        except FAULTS:
            continue  # it has no such option
        if variant.head == "kept":
            _detach_classifier(module, name)
        try:
            return variant, find_features(module, sides, headless=variant.head == "removed")
        except UnsuitableError as error:
            refused = error
            if "dynamic_img_size" in variant.options:
                break  # it takes all sides that it can
    raise refused


def _variants(name: str, sides: Sequence[int], heads: Sequence[_Head]) -> Iterator[_Variant]:
    """Yield ways to make a backbone, those first that suit the most sizes of pictures."""
    configuration = _configuration(name)
    options: list[dict[str, Any]] = [{}]
    if configuration and configuration.fixed_input_size:
        options = [{"dynamic_img_size": True}, {}]
        if len(sides) == 1:
            options.append({"img_size": sides[0]})
    for head, chosen in itertools.product(heads, options):
        yield _Variant(head, chosen)


def _pretrained_side(name: str) -> int:
    configuration = _configuration(name)
    return max(configuration.input_size[1:]) if configuration else 224


def _advice(name: str, side: int, heads: tuple[_Head, ...]) -> str:
    """Name a side not far away that a backbone takes, or that of its pretraining."""
    near = {round(side / step) * step + more for step in (28, 32) for more in (-step, 0, step)}
    by_distance = sorted((one for one in near if one > 0), key=lambda one: abs(one - side))
    for other in [*by_distance, _pretrained_side(name)]:
        try:
            _find_variant(name, (other,), heads)
        except UnsuitableError:
            continue
        return f"; of {other} it does"
    return ""


def _detach_classifier(backbone: Any, name: str) -> nn.Linear:  # noqa: ANN401 - timm's methods
    classifier = backbone.get_classifier() if hasattr(backbone, "get_classifier") else None
    reason = f"{name} has no linear classifier to use as the neck"
    if not isinstance(classifier, nn.Linear):
        raise _recipe_error("network.neck", reason)
    try:
        backbone.reset_classifier(0, global_pool="")
    except FAULTS as error:
        raise _recipe_error("network.neck", reason) from error
    return classifier


def _create(name: str, variant: _Variant, **more: Any) -> nn.Module:  # noqa: ANN401 - timm's options
    """Create a backbone that gives unpooled features, or one with its classifier."""
    if name == _SIX_CONVOLUTIONS:
        return SixConvolutions()
    options = {**variant.options, **more}
    if variant.head != "kept":
        options["num_classes"] = 0
    if variant.head == "unpooled":
        options["global_pool"] = ""
    module: nn.Module = timm.create_model(name, **options)
    if variant.head == "removed" and hasattr(module, "head"):
        module.head = nn.Identity()
    return module


def _create_with(name: str, variant: _Variant, weights: Path) -> nn.Module:
    """Create a backbone with the weights of a file, which are of the pretraining's sides."""
    module = _create(name, variant)
    if "img_size" not in variant.options:
        load_weights(module, weights)
        return module
    whole = _create(name, _Variant(variant.head))
    load_weights(whole, weights)
    overlay = {"state_dict": whole.state_dict()}
    try:  # timm resizes what depends on the side: tables of positions
        return _create(name, variant, pretrained=True, pretrained_cfg_overlay=overlay)
    except RuntimeError as error:
        side = variant.options["img_size"]
        reason = f"the weights of {name} cannot be resized to pictures of {side} pixels"
        raise _recipe_error(
            "network.backbone", f"{reason}; they are for {_pretrained_side(name)}"
        ) from error


def _create_pretrained(recipe: NetworkRecipe, variant: _Variant) -> nn.Module:
    """Create a backbone with timm's pretrained weights, or by ``preferred`` without them."""
    name, cause = recipe.backbone, None
    reason = f"timm has no pretrained weights of {name}"
    if timm.is_model_pretrained(name):
        try:
            return _create(name, variant, pretrained=True)
        except (OSError, RuntimeError, ValueError) as error:  # network and hub
            reason = f"timm's weights of {name} cannot be loaded ({type(error).__name__})"
            cause = error
    if recipe.pretrained == "required":
        advice = f"{reason}; name a file by --weights, or set network.pretrained=none"
        raise _recipe_error("network.pretrained", advice) from cause
    _log.warning("%s; training starts from random weights", reason)
    return _create(name, variant)
