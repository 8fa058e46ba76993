"""The embedding network: backbone, pooling, neck."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from embedder.artifacts.documents import FrozenModel
from trainer.recipe.fields import FractionBelowOne


class GemRecipe(FrozenModel):
    """Generalized mean: ``p`` = 1 is the average, large ``p`` approaches the maximum.

    Attributes:
        p: Initial exponent.
        trained: Whether the exponent is learned.
        test_p: Exponent in evaluation, in place of the trained one.
    """

    kind: Literal["gem"]
    p: float = Field(default=3.0, ge=1, le=20)
    trained: bool = True
    test_p: float | None = Field(default=None, ge=1, le=20)


class AverageRecipe(FrozenModel):
    """The mean over all positions."""

    kind: Literal["average"]


class GridRecipe(FrozenModel):
    """The means over the cells of a grid, concatenated: positions still count.

    Attributes:
        cells: Number along each side.
    """

    kind: Literal["grid"]
    cells: int = Field(default=6, ge=1, le=32)


class TokenRecipe(FrozenModel):
    """The class token of a transformer."""

    kind: Literal["token"]


PoolingRecipe = Annotated[
    GemRecipe | AverageRecipe | GridRecipe | TokenRecipe, Field(discriminator="kind")
]


class LinearNeckRecipe(FrozenModel):
    """One linear layer from pooled features to the embedding.

    Attributes:
        dimension: Length of the embedding.
        after: What follows the linear layer.
    """

    kind: Literal["linear"] = "linear"
    dimension: int = Field(default=512, ge=2)
    after: Literal["nothing", "swish", "batchnorm", "batchnorm-prelu"] = "batchnorm"


class HiddenNeckRecipe(FrozenModel):
    """Two linear layers with a ReLU between them.

    Attributes:
        hidden: Width between the layers.
        dropout: Dropout probability between the layers.
        dimension: Length of the embedding.
    """

    kind: Literal["hidden"]
    hidden: int = Field(ge=2)
    dropout: FractionBelowOne = 0.0
    dimension: int = Field(default=512, ge=2)


class NoNeckRecipe(FrozenModel):
    """The pooled features are the embedding."""

    kind: Literal["none"]


class ClassifierNeckRecipe(FrozenModel):
    """The backbone's own pretrained classifier: its logits are the embedding."""

    kind: Literal["classifier"]


def _linear_by_default(neck: Any) -> Any:  # noqa: ANN401 - any YAML value
    return {"kind": "linear", **neck} if isinstance(neck, dict) else neck


NeckRecipe = Annotated[
    Annotated[
        LinearNeckRecipe | HiddenNeckRecipe | NoNeckRecipe | ClassifierNeckRecipe,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_linear_by_default),
]


class NetworkRecipe(FrozenModel):
    """The embedding network, the part of a training that is exported.

    Attributes:
        backbone: Any timm model that gives feature maps or tokens, or ``six_convolutions``.
        pretrained: ``required`` fails without pretrained weights, ``preferred`` falls back to
            random ones with a warning, ``none`` starts from random ones. ``--weights`` overrides
            all three.
        frozen: Submodules of the backbone, by their names in timm, that are not trained, norms
            included. The first layers of a pretrained network are the slowest to train and
            change least.
        dropout: Dropout probability of the pooled features.
    """

    backbone: str = Field(min_length=1)
    pretrained: Literal["required", "preferred", "none"] = "required"
    frozen: tuple[str, ...] = ()
    pooling: PoolingRecipe
    dropout: FractionBelowOne = 0.0
    neck: NeckRecipe = LinearNeckRecipe()
