"""Recipes: what a run is asked to do, in YAML, validated as a whole. It imports no torch.

A recipe is immutable, and its resolved form is stored in the run and in the embedder. The kinds
of a part (heads, schedules, …) are in the module of their subject.
"""

from trainer.recipe.data import AugmentRecipe
from trainer.recipe.head import HeadRecipe
from trainer.recipe.load import load_ensemble, load_recipe, validated
from trainer.recipe.network import NetworkRecipe
from trainer.recipe.recipe import EmbedderRecipe, Recipe, View, WhitenRecipe
from trainer.recipe.stage import OptimizerRecipe, StageRecipe

__all__ = [
    "AugmentRecipe",
    "EmbedderRecipe",
    "HeadRecipe",
    "NetworkRecipe",
    "OptimizerRecipe",
    "Recipe",
    "StageRecipe",
    "View",
    "WhitenRecipe",
    "load_ensemble",
    "load_recipe",
    "validated",
]
