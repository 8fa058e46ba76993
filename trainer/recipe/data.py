"""Which photographs a run uses, and how training pictures are augmented."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from embedder.artifacts.documents import FrozenModel
from photographs.prepare.split import CountsRecipe, FoldsRecipe, SubsetRecipe
from trainer.recipe.fields import Fraction, FractionBelowOne, PositiveFraction


class DataRecipe(FrozenModel):
    """The photographs of a run, and how they are split into training and validation set.

    Attributes:
        list: The list in a GLDv2 folder, such as ``train.csv``; None takes the clean one if
            it is there.
        subset: Use only a part of the photographs; None uses all.
        validation: Fraction of each landmark's pictures in the validation set, or another way
            to split.
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
        FractionBelowOne | Annotated[FoldsRecipe | CountsRecipe, Field(discriminator="kind")]
    ) = 0.06
    gallery_per_landmark: int = Field(default=40, ge=1)
    distractors: Path | None = None
    workers: int = Field(default=2, ge=0)
    max_unreadable: Fraction = 0.01


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
