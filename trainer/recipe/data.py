"""Which photographs a run uses, what it is scored on, and how training pictures are augmented."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from embedder.artifacts.documents import FrozenModel
from photographs.prepare.split import CountsRecipe, FoldsRecipe, SubsetRecipe
from trainer.recipe.fields import Fraction, FractionBelowOne, PositiveFraction


class QueriesRecipe(FrozenModel):
    """Train on all photographs, validate on the labeled queries of a data folder.

    Such as those of Google Landmarks v2, which rank networks as its leaderboard did: most of them
    show no landmark.

    Attributes:
        data: The data folder; none of its queries may be among the training pictures.
    """

    kind: Literal["queries"]
    data: Path


class DataRecipe(FrozenModel):
    """The photographs of a run, and how they are split into training and validation set.

    Attributes:
        list: The list in a GLDv2 folder, such as ``train.csv``; None takes the clean one if
            it is there.
        subset: Use only a part of the photographs; None uses all.
        validation: Fraction of each landmark's pictures in the validation set, another way
            to split, or queries from elsewhere.
        gallery_per_landmark: Number of training pictures per landmark in the gallery that
            validation searches; more is slower and closer to the real gallery.
        distractors: A folder or list of pictures of no landmark, added to the validation
            queries: any answer to them is wrong, and the AUROC measures how well they are
            separated.
        workers: Processes that decode and augment, per training process; 0 does it in the
            training process.
        max_unreadable: Fraction of the pictures that may be unreadable before the run stops.
    """

    list: str | None = None
    subset: SubsetRecipe | None = None
    validation: (
        FractionBelowOne
        | Annotated[FoldsRecipe | CountsRecipe | QueriesRecipe, Field(discriminator="kind")]
    ) = 0.06
    gallery_per_landmark: int = Field(default=40, ge=1)
    distractors: Path | None = None
    workers: int = Field(default=2, ge=0)
    max_unreadable: Fraction = 0.01


class ValidationRecipe(FrozenModel):
    """When the network in training is scored, and on how many pictures at most.

    The best network of a run is among those that were scored. Pictures have the stage's own side,
    or that of ``embed`` where the stage has the last one's.

    Attributes:
        every: Epochs between two scores, or steps of an epoch.
        unit: Of ``every``. The end of a stage is scored in any case, with steps that of each epoch.
        gallery: Largest number of training pictures that are searched.
        queries: Largest number of queries; and of pictures of no landmark, apart from them.
    """

    every: int = Field(default=1, ge=1)
    unit: Literal["epochs", "steps"] = "epochs"
    gallery: int = Field(default=20_000, ge=1)
    queries: int = Field(default=5_000, ge=1)


class AugmentRecipe(FrozenModel):
    """Random changes to a training picture. Zero switches a part off.

    Attributes:
        flip: Probability of a horizontal flip.
        crop: Smallest fraction of the area that a random crop keeps; 1 keeps the whole picture.
        aspect: Largest factor by which a crop's aspect ratio changes.
        turn_degrees: Largest rotation to either side.
        turn: Probability of the affine transform: rotation, shift and zoom.
        shift: Largest shift along either side, as a fraction of it.
        zoom: Largest relative change of size.
        brightness: Largest relative change of brightness.
        contrast: Largest relative change of contrast.
        saturation: Largest relative change of saturation.
        cutout: Probability that a square is blanked.
        cutout_side: Side of that square as a fraction of the picture's.
        cutout_fill: Color of that square: the mean of ImageNet, or black.
    """

    flip: Fraction = 0.5
    crop: PositiveFraction = 1.0
    aspect: Annotated[float, Field(ge=1, le=4)] = 1.0
    turn_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    turn: Fraction = 0.0
    shift: Fraction = 0.0
    zoom: FractionBelowOne = 0.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0
    cutout: Fraction = 0.0
    cutout_side: Fraction = 0.4
    cutout_fill: Literal["mean", "black"] = "mean"
