"""Recipes: what a run is asked to do, in YAML, validated as a whole. It imports no torch.

A recipe is immutable, and its resolved form is stored in the run and in the embedder.
"""

from trainer.recipe.data import AugmentRecipe, DataRecipe
from trainer.recipe.head import (
    AdaCosRecipe,
    ArcFaceRecipe,
    ConstantMargin,
    CosFaceRecipe,
    DynamicMargin,
    HeadRecipe,
    SoftmaxRecipe,
    SubcenterArcFaceRecipe,
)
from trainer.recipe.load import load_ensemble, load_recipe, validated
from trainer.recipe.network import (
    AverageRecipe,
    ClassifierNeckRecipe,
    GemRecipe,
    GridRecipe,
    HiddenNeckRecipe,
    LinearNeckRecipe,
    NeckRecipe,
    NetworkRecipe,
    NoNeckRecipe,
    PoolingRecipe,
    TokenRecipe,
)
from trainer.recipe.recipe import EmbedderRecipe, EnsembleRecipe, Recipe, View, WhitenRecipe
from trainer.recipe.stage import (
    Constant,
    Cosine,
    Halving,
    OneCycle,
    OptimizerRecipe,
    StageRecipe,
)

__all__ = [
    "AdaCosRecipe",
    "ArcFaceRecipe",
    "AugmentRecipe",
    "AverageRecipe",
    "ClassifierNeckRecipe",
    "Constant",
    "ConstantMargin",
    "CosFaceRecipe",
    "Cosine",
    "DataRecipe",
    "DynamicMargin",
    "EmbedderRecipe",
    "EnsembleRecipe",
    "GemRecipe",
    "GridRecipe",
    "Halving",
    "HeadRecipe",
    "HiddenNeckRecipe",
    "LinearNeckRecipe",
    "NeckRecipe",
    "NetworkRecipe",
    "NoNeckRecipe",
    "OneCycle",
    "OptimizerRecipe",
    "PoolingRecipe",
    "Recipe",
    "SoftmaxRecipe",
    "StageRecipe",
    "SubcenterArcFaceRecipe",
    "TokenRecipe",
    "View",
    "WhitenRecipe",
    "load_ensemble",
    "load_recipe",
    "validated",
]
