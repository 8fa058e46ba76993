"""The head: the loss of a training."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from embedder.artifacts.documents import FrozenModel
from trainer.recipe.fields import Fraction, FractionBelowOne, PositiveFraction

SCALE_LIMIT = 1000  # from this factor on, the softmax has no useful gradient


def _check_trainable(scale: float) -> float:
    if scale >= SCALE_LIMIT:
        raise ValueError(
            f"a scale of {scale:g} cannot be trained: from {SCALE_LIMIT} up the softmax is all or "
            "nothing, so each picture's gradient is 0 or as large as the scale; 20 to 80 is usual"
        )
    return scale


Scale = Annotated[float, Field(gt=0), AfterValidator(_check_trainable)]
Radians = Annotated[float, Field(ge=0, le=math.pi / 2)]


class DynamicMargin(FrozenModel):
    """A margin per landmark in radians, larger the fewer pictures it has."""

    kind: Literal["dynamic"]
    smallest: Radians = 0.05
    largest: Radians = 0.5

    @model_validator(mode="after")
    def _check_order(self) -> DynamicMargin:
        if self.smallest > self.largest:
            raise ValueError("the smallest margin is larger than the largest")
        return self


class ConstantMargin(FrozenModel):
    """The same margin for all landmarks."""

    kind: Literal["constant"]
    radians: Radians = 0.3


Margin = Annotated[DynamicMargin | ConstantMargin, Field(discriminator="kind")]


class _HeadRecipe(FrozenModel):
    """What all heads share.

    Attributes:
        class_weights: ``rarity`` weighs each picture's loss by ``1 / log(1 + n)``, n pictures
            of its landmark; ``even`` weighs all alike.
        sample: Fraction of the landmarks over which each step computes its softmax, the batch's
            own among them; less than 1 is faster with very many landmarks.
        label_smoothing: Part of each label that is spread over all landmarks alike.
    """

    class_weights: Literal["even", "rarity"] = "even"
    sample: PositiveFraction = 1.0
    label_smoothing: FractionBelowOne = 0.0


class SubcenterArcFaceRecipe(_HeadRecipe):
    """Sub-center ArcFace; ``centers`` = 1 is plain ArcFace.

    Attributes:
        centers: Sub-centers per landmark; with more than one, wrongly labeled pictures gather
            around a center of their own.
        scale: Factor of the cosines before the softmax.
        margin: Added to the angle between a picture and its landmark.
    """

    kind: Literal["subcenter_arcface"]
    centers: int = Field(default=3, ge=1, le=16)
    scale: Scale = 30.0
    margin: Margin


class ArcFaceRecipe(_HeadRecipe):
    """ArcFace: one center per landmark; ``scale`` and ``margin`` as for sub-center ArcFace."""

    kind: Literal["arcface"]
    scale: Scale = 30.0
    margin: Margin


class CosFaceRecipe(_HeadRecipe):
    """CosFace: a margin subtracted from the cosine.

    Attributes:
        scale: Factor of the cosines before the softmax.
        margin: Subtracted from the cosine between a picture and its landmark.
    """

    kind: Literal["cosface"]
    scale: Scale = 30.0
    margin: Fraction = 0.35


class AdaCosRecipe(_HeadRecipe):
    """AdaCos: no margin, and a scale that is computed.

    Attributes:
        variant: The scale depends for ``fixed`` on the number of landmarks, for ``semi`` also on
            the batch's angles, for ``dynamic`` also on its cosines with wrong landmarks.
    """

    kind: Literal["adacos"]
    variant: Literal["fixed", "semi", "dynamic"]

    @model_validator(mode="after")
    def _check_sample(self) -> AdaCosRecipe:
        if self.variant == "dynamic" and self.sample < 1:
            raise ValueError("the variant dynamic sums over all landmarks: sample must be 1")
        return self


class SoftmaxRecipe(_HeadRecipe):
    """A linear classifier with bias.

    Attributes:
        relu: Apply a ReLU to the features first.
        dropout: Dropout probability of the features.
    """

    kind: Literal["softmax"]
    relu: bool = False
    dropout: FractionBelowOne = 0.0


HeadRecipe = SubcenterArcFaceRecipe | ArcFaceRecipe | CosFaceRecipe | AdaCosRecipe | SoftmaxRecipe
