"""Heads from their recipes."""

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.heads.adacos import AdaCos
from trainer.heads.cosface import CosFace
from trainer.heads.head import Head, rarity_weights
from trainer.heads.softmax import Softmax
from trainer.heads.subcenter_arcface import SubcenterArcFace, dynamic_margins
from trainer.recipe import head as recipes
from trainer.recipe.head import HeadRecipe


def make_head(recipe: HeadRecipe, dimension: int, counts: NDArray[np.int64]) -> Head:
    """Make the head of a recipe for embeddings of a length.

    ``counts`` are ``(C,)``, the training pictures of each landmark.

    Raises:
        TrainingError: There are too few landmarks for this head.
    """
    head = _make_unweighted(recipe, dimension, counts)
    head.sample = recipe.sample
    head.label_smoothing = recipe.label_smoothing
    if recipe.class_weights == "rarity":
        head.weights = torch.from_numpy(rarity_weights(counts)).float()
    return head


def set_class_counts(head: Head, recipe: HeadRecipe, counts: NDArray[np.int64]) -> None:
    """Recompute a head's weights and margins for other numbers of pictures; centers stay.

    ``head`` was made by the same recipe, for as many landmarks.
    """
    if head.weights is not None:
        head.weights.copy_(torch.from_numpy(rarity_weights(counts)))
    if isinstance(head, SubcenterArcFace) and isinstance(
        recipe, recipes.SubcenterArcFaceRecipe | recipes.ArcFaceRecipe
    ):
        head.margins.copy_(_margins(recipe.margin, counts))


def _make_unweighted(recipe: HeadRecipe, dimension: int, counts: NDArray[np.int64]) -> Head:
    landmarks = len(counts)
    if isinstance(recipe, recipes.SoftmaxRecipe):
        return Softmax(dimension, landmarks, relu=recipe.relu, dropout=recipe.dropout)
    if isinstance(recipe, recipes.AdaCosRecipe):
        return AdaCos(dimension, landmarks, variant=recipe.variant)
    if isinstance(recipe, recipes.CosFaceRecipe):
        return CosFace(dimension, landmarks, scale=recipe.scale, margin=recipe.margin)
    centers = recipe.centers if isinstance(recipe, recipes.SubcenterArcFaceRecipe) else 1
    margins = _margins(recipe.margin, counts)
    return SubcenterArcFace(dimension, margins, centers=centers, scale=recipe.scale)


def _margins(recipe: recipes.Margin, counts: NDArray[np.int64]) -> torch.Tensor:
    if isinstance(recipe, recipes.DynamicMargin):
        margins = dynamic_margins(counts, smallest=recipe.smallest, largest=recipe.largest)
        return torch.from_numpy(margins).float()
    return torch.full((len(counts),), recipe.radians, dtype=torch.float32)
