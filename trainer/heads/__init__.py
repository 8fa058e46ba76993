"""Heads: from embeddings and labels to the loss of training. Thrown away at export."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.heads.adacos import AdaCos
from trainer.heads.cosface import CosFace
from trainer.heads.head import Head, rarity_weights
from trainer.heads.softmax import Softmax
from trainer.heads.subcenter_arcface import SubcenterArcFace, dynamic_margins
from trainer.recipe import (
    AdaCosRecipe,
    ArcFaceRecipe,
    ConstantMargin,
    CosFaceRecipe,
    DynamicMargin,
    HeadRecipe,
    SoftmaxRecipe,
    SubcenterArcFaceRecipe,
)


def make_head(recipe: HeadRecipe, dimension: int, counts: NDArray[np.int64]) -> Head:
    """Make the head that a recipe asks for.

    Args:
        recipe: Kind and constants.
        dimension: Length of the embedding.
        counts: ``(C,)``, training pictures of each landmark.

    Raises:
        TrainingError: There are too few landmarks for this head.
    """
    weights = None
    if recipe.class_weights == "rarity":
        weights = torch.from_numpy(rarity_weights(counts)).float()
    shared: dict[str, Any] = {"weights": weights, "sample": recipe.sample}
    if isinstance(recipe, SoftmaxRecipe):
        return Softmax(dimension, len(counts), relu=recipe.relu, dropout=recipe.dropout, **shared)
    if isinstance(recipe, AdaCosRecipe):
        return AdaCos(dimension, len(counts), variant=recipe.variant, **shared)
    if isinstance(recipe, CosFaceRecipe):
        return CosFace(dimension, len(counts), scale=recipe.scale, margin=recipe.margin, **shared)
    return SubcenterArcFace(
        dimension,
        _margins(recipe.margin, counts),
        centers=recipe.centers if isinstance(recipe, SubcenterArcFaceRecipe) else 1,
        scale=recipe.scale,
        **shared,
    )


def recount(head: Head, recipe: HeadRecipe, counts: NDArray[np.int64]) -> None:
    """Give a head the weights and margins of other numbers of pictures; what it learned stays.

    Args:
        head: Made by the same recipe, for as many landmarks.
        recipe: Kind and constants.
        counts: ``(C,)``, training pictures of each landmark.
    """
    if head.weights is not None:
        head.weights.copy_(torch.from_numpy(rarity_weights(counts)))
    if isinstance(head, SubcenterArcFace) and isinstance(
        recipe, SubcenterArcFaceRecipe | ArcFaceRecipe
    ):
        head.margins.copy_(_margins(recipe.margin, counts))


def _margins(recipe: DynamicMargin | ConstantMargin, counts: NDArray[np.int64]) -> torch.Tensor:
    if isinstance(recipe, DynamicMargin):
        limits = {"smallest": recipe.smallest, "largest": recipe.largest}
        return torch.from_numpy(dynamic_margins(counts, **limits)).float()
    return torch.from_numpy(np.full(len(counts), recipe.radians)).float()
