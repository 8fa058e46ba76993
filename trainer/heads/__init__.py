"""Heads: from embeddings and labels to the loss of training. Thrown away at export."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer.heads.subcenter_arcface import SubcenterArcFace, dynamic_margins
from trainer.recipe import DynamicMargin, SubcenterArcFaceRecipe


def make_head(
    recipe: SubcenterArcFaceRecipe, dimension: int, counts: NDArray[np.int64]
) -> nn.Module:
    """Make the head that a recipe asks for.

    Args:
        recipe: Kind and constants.
        dimension: Length of the embedding.
        counts: ``(C,)``, training pictures of each landmark.
    """
    if isinstance(recipe.margin, DynamicMargin):
        margins = dynamic_margins(
            counts, smallest=recipe.margin.smallest, largest=recipe.margin.largest
        )
    else:
        margins = np.full(len(counts), recipe.margin.radians)
    return SubcenterArcFace(
        dimension,
        torch.from_numpy(margins).float(),
        centers=recipe.centers,
        scale=recipe.scale,
    )
