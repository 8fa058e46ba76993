"""The neck: from pooled features to the embedding."""

from __future__ import annotations

from torch import nn

from trainer.recipe.network import HiddenNeckRecipe, LinearNeckRecipe, NeckRecipe


def make_neck(
    recipe: NeckRecipe, width: int, classifier: nn.Linear | None
) -> tuple[nn.Module, int]:
    """Make the neck of a recipe; return it with the length of the embedding.

    Args:
        recipe: Kind and constants.
        width: Length of the pooled features.
        classifier: The backbone's own, if that is the neck.
    """
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
