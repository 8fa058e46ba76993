"""What a training run is asked to do, written in YAML and checked as a whole.

A recipe is frozen once validated, and the resolved one is stored with the run and in the
embedder. Every fault is reported at once, with its path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from embedder.errors import Fault, RecipeError
from embedder.manifest import Preprocess
from index.ranking.ranking import Ranking
from photographs.prepare.split import CountsRecipe, FoldsRecipe, SubsetRecipe
from trainer.recipe.inheritance import read_inherited

SCALE_LIMIT = 1000
"""Cosines times this or more leave the softmax nothing to learn from."""

Fraction = Annotated[float, Field(ge=0, le=1)]
_Kind = TypeVar("_Kind", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataRecipe(_Frozen):
    """Which photographs are learned from, and which of them are kept back to choose by.

    Attributes:
        list: The list in a GLDv2 folder, such as ``train.csv``; None takes the clean one if
            it is there.
        subset: Take only a part of them; None takes all.
        validation: Part of each landmark's pictures that is kept back, or another way to split.
        gallery_per_landmark: At validation, how many training pictures of each landmark stand
            in the gallery; more is slower and nearer to the truth.
        distractors: A folder or list of pictures of no landmark. At validation they are asked
            too: any answer to them is wrong, and the AUROC tells how well they are told apart.
        workers: Processes that decode and augment, for each training process; 0 does it in
            there.
        max_unreadable: Part of the pictures that may be unreadable before the run stops.
    """

    list: str | None = None
    subset: SubsetRecipe | None = None
    validation: (
        Annotated[float, Field(ge=0, lt=1)]
        | Annotated[FoldsRecipe | CountsRecipe, Field(discriminator="kind")]
    ) = 0.06
    gallery_per_landmark: int = Field(default=40, ge=1)
    distractors: Path | None = None
    workers: int = Field(default=2, ge=0)
    max_unreadable: Fraction = 0.01


class AugmentRecipe(_Frozen):
    """How a training picture is varied. Zero switches a part off.

    Attributes:
        flip: Probability of a mirrored picture.
        crop: Smallest part of the area that a random crop keeps; 1 keeps the whole picture.
        aspect: Largest factor by which a crop's proportions change.
        turn_degrees: Largest rotation to either side.
        turn: Probability of a rotation, with the shift and the zoom.
        shift: Largest shift along either side, as a part of it.
        zoom: Largest relative change of size.
        brightness: Largest relative change of brightness; likewise contrast and saturation.
        contrast: See ``brightness``.
        saturation: See ``brightness``.
        cutout: Probability that a square is blanked.
        cutout_side: Side of that square as a part of the picture's.
    """

    flip: Fraction = 0.5
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    aspect: Annotated[float, Field(ge=1, le=4)] = 1.0
    turn_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    turn: Fraction = 0.0
    shift: Fraction = 0.0
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0
    cutout: Fraction = 0.0
    cutout_side: Fraction = 0.4


class GemRecipe(_Frozen):
    """Generalized mean: ``p`` = 1 is the average, large ``p`` nears the maximum.

    Attributes:
        p: First exponent.
        trained: Whether the exponent is learned.
        test_p: Exponent of the finished network, in place of the one it was trained with.
    """

    kind: Literal["gem"]
    p: float = Field(default=3.0, ge=1, le=20)
    trained: bool = True
    test_p: float | None = Field(default=None, ge=1, le=20)


class AverageRecipe(_Frozen):
    """The mean over all positions."""

    kind: Literal["average"]


class GridRecipe(_Frozen):
    """The means over the cells of a grid, side by side: where something is still counts.

    Attributes:
        cells: Along each side.
    """

    kind: Literal["grid"]
    cells: int = Field(default=6, ge=1, le=32)


class TokenRecipe(_Frozen):
    """The class token of a transformer."""

    kind: Literal["token"]


class NeckRecipe(_Frozen):
    """From pooled features to the embedding by a linear layer.

    Attributes:
        dimension: Length of the embedding.
        after: What follows the linear layer.
    """

    kind: Literal["linear"] = "linear"
    dimension: int = Field(default=512, ge=2)
    after: Literal["nothing", "swish", "batchnorm", "batchnorm-prelu"] = "batchnorm"


class HiddenNeckRecipe(_Frozen):
    """Two linear layers with a ReLU between them.

    Attributes:
        hidden: Width between the layers.
        dropout: Dropped part of what lies between the layers.
        dimension: Length of the embedding.
    """

    kind: Literal["hidden"]
    hidden: int = Field(ge=2)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    dimension: int = Field(default=512, ge=2)


class NoNeckRecipe(_Frozen):
    """The pooled features are the embedding."""

    kind: Literal["none"]


class ClassifierNeckRecipe(_Frozen):
    """The backbone's own classifier, pretrained with it: its logits are the embedding."""

    kind: Literal["classifier"]


def _neck_kind(neck: Any) -> str | None:  # noqa: ANN401 - any YAML value
    """Name the kind of a neck; the linear one need not be named."""
    kind = neck.get("kind", "linear") if isinstance(neck, dict) else getattr(neck, "kind", None)
    return kind if isinstance(kind, str) else None


AnyNeckRecipe = Annotated[
    Annotated[NeckRecipe, Tag("linear")]
    | Annotated[HiddenNeckRecipe, Tag("hidden")]
    | Annotated[NoNeckRecipe, Tag("none")]
    | Annotated[ClassifierNeckRecipe, Tag("classifier")],
    Discriminator(_neck_kind),
]
AnyPoolingRecipe = Annotated[
    GemRecipe | AverageRecipe | GridRecipe | TokenRecipe, Field(discriminator="kind")
]


class NetworkRecipe(_Frozen):
    """The part of the network that is kept.

    Attributes:
        backbone: Any timm model that gives feature maps or tokens, or ``six_convolutions``.
        pretrained: ``required`` fails without pretrained weights, ``preferred`` goes on from
            random ones with a warning, ``none`` never asks. ``--weights`` outranks all three.
        frozen: Parts of the backbone, by their names in timm, that stay as they are, norms too.
            The first layers of a pretrained network are the slowest to train and change least.
        dropout: Dropped part of the pooled features.
    """

    backbone: str = Field(min_length=1)
    pretrained: Literal["required", "preferred", "none"] = "required"
    frozen: tuple[str, ...] = ()
    pooling: AnyPoolingRecipe
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    neck: AnyNeckRecipe = NeckRecipe()


class DynamicMargin(_Frozen):
    """A margin for each landmark, larger the fewer pictures it has."""

    kind: Literal["dynamic"]
    smallest: Annotated[float, Field(ge=0, le=math.pi / 2)] = 0.05
    largest: Annotated[float, Field(ge=0, le=math.pi / 2)] = 0.5

    @model_validator(mode="after")
    def _grows(self) -> DynamicMargin:
        if self.smallest > self.largest:
            raise ValueError("the smallest margin is larger than the largest")
        return self


class ConstantMargin(_Frozen):
    """One margin for all, in radians."""

    kind: Literal["constant"]
    radians: Annotated[float, Field(ge=0, le=math.pi / 2)] = 0.3


def _trainable(scale: float) -> float:
    """Refuse a scale at which nothing can be learned."""
    if scale >= SCALE_LIMIT:
        raise ValueError(
            f"a scale of {scale:g} cannot be trained: from {SCALE_LIMIT} up the softmax is all or "
            "nothing, so each picture's gradient is 0 or as large as the scale; 20 to 80 is usual"
        )
    return scale


Scale = Annotated[float, Field(gt=0), AfterValidator(_trainable)]
Margin = Annotated[DynamicMargin | ConstantMargin, Field(discriminator="kind")]


class _HeadRecipe(_Frozen):
    """What all heads share.

    Attributes:
        class_weights: ``rarity`` weighs each picture's loss by ``1 / log(1 + n)``, n pictures
            of its landmark; ``even`` weighs all alike.
        sample: Part of the landmarks over which each step computes its softmax, the batch's own
            among them; less than 1 is faster with very many landmarks.
    """

    class_weights: Literal["even", "rarity"] = "even"
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0


class SubcenterArcFaceRecipe(_HeadRecipe):
    """Sub-center ArcFace; ``centers`` = 1 is plain ArcFace.

    Attributes:
        centers: Sub-centers of a landmark; more than one lets noisy labels gather aside.
        scale: What cosines are multiplied by before the softmax.
        margin: By how much a true landmark's angle is widened.
    """

    kind: Literal["subcenter_arcface"]
    centers: int = Field(default=3, ge=1, le=16)
    scale: Scale = 30.0
    margin: Margin


class ArcFaceRecipe(_HeadRecipe):
    """ArcFace: one center for each landmark.

    Attributes:
        scale: What cosines are multiplied by before the softmax.
        margin: By how much a true landmark's angle is widened.
    """

    kind: Literal["arcface"]
    scale: Scale = 30.0
    margin: Margin


class CosFaceRecipe(_HeadRecipe):
    """CosFace: a true landmark's cosine is made smaller.

    Attributes:
        scale: What cosines are multiplied by before the softmax.
        margin: What is taken off the true cosine.
    """

    kind: Literal["cosface"]
    scale: Scale = 30.0
    margin: Fraction = 0.35


class AdaCosRecipe(_HeadRecipe):
    """AdaCos: no margin, and a scale that is computed.

    Attributes:
        variant: ``fixed`` by the number of landmarks, ``semi`` also by the batch's angles,
            ``dynamic`` also by its cosines with wrong landmarks.
    """

    kind: Literal["adacos"]
    variant: Literal["fixed", "semi", "dynamic"]

    @model_validator(mode="after")
    def _sees_all(self) -> AdaCosRecipe:
        if self.variant == "dynamic" and self.sample < 1:
            raise ValueError("the variant dynamic sums over all landmarks: sample must be 1")
        return self


class SoftmaxRecipe(_HeadRecipe):
    """A plain linear classifier with bias.

    Attributes:
        relu: Cut negative features off before it.
        dropout: Dropped part of the features.
    """

    kind: Literal["softmax"]
    relu: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


HeadRecipe = SubcenterArcFaceRecipe | ArcFaceRecipe | CosFaceRecipe | AdaCosRecipe | SoftmaxRecipe


class OneCycle(_Frozen):
    """Rise linearly for a part of the stage, then fall to zero along a cosine."""

    kind: Literal["one-cycle"]
    rise: Fraction = 0.15


class Cosine(_Frozen):
    """Start at a part of the full rate for some epochs, then fall along a cosine."""

    kind: Literal["cosine"]
    warmup_epochs: float = Field(default=1.0, ge=0)
    warmup_factor: Fraction = 0.1


class Halving(_Frozen):
    """Rise linearly, then halve with every epoch, down to a floor.

    Attributes:
        start: Part of the full rate at which the rise begins.
        rise_epochs: Epochs until the full rate.
        floor: Part of the full rate below which nothing falls.
    """

    kind: Literal["halving"]
    start: Fraction = 0.025
    rise_epochs: float = Field(default=2.0, ge=0)
    floor: Fraction = 0.025


class Constant(_Frozen):
    """The full rate throughout."""

    kind: Literal["constant"]


class StageRecipe(_Frozen):
    """One stretch of training at one picture size.

    Attributes:
        list: The list in a GLDv2 folder that this stage learns from; None takes that of ``data``.
            The network goes on; where the landmarks are others, head and optimizer begin anew.
        side: Picture side in pixels.
        epochs: Passes over the training pictures that the schedule is planned for.
        stop_at_epoch: Cut the stage short here; None runs it out.
        batch_size: Pictures per step, of all processes together.
        accumulate: Parts in which a step's pictures go through the network, to save memory. The
            gradient is that of the whole, but for norms over the batch, AdaCos's adaptive scales
            and sampled landmarks, which see one part at a time.
        lr: Full learning rate of the backbone.
        head_lr: Full learning rate of pooling, neck and head.
        frozen_epochs: First epochs in which the backbone stays as it is.
        schedule: How the rates change over the stage.
    """

    list: str | None = None
    side: int = Field(ge=16, le=4096)
    epochs: int = Field(ge=1)
    stop_at_epoch: int | None = Field(default=None, ge=1)
    batch_size: int = Field(ge=2)
    accumulate: int = Field(default=1, ge=1)
    lr: float = Field(gt=0)
    head_lr: float = Field(gt=0)
    frozen_epochs: int = Field(default=0, ge=0)
    schedule: Annotated[OneCycle | Cosine | Halving | Constant, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _has_parts(self) -> StageRecipe:
        if self.batch_size < 2 * self.accumulate:
            raise ValueError("each part of a step needs two pictures: lower accumulate")
        return self

    @property
    def last_epoch(self) -> int:
        """Number of epochs that are run."""
        return min(self.epochs, self.stop_at_epoch or self.epochs)


class OptimizerRecipe(_Frozen):
    """The optimizer.

    Attributes:
        kind: ``adamw`` decouples the weight decay, ``adam`` and ``radam`` add it to the
            gradient (L2).
        weight_decay: Not applied to biases, norms and GeM's exponent.
        clip_norm: Largest norm of the gradient; None lets it be.
    """

    kind: Literal["adamw", "adam", "radam"] = "adamw"
    weight_decay: float = Field(default=1e-4, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)


class WhitenRecipe(_Frozen):
    """PCA whitening of the embeddings.

    Attributes:
        dimension: Directions that are kept, those of largest variance; None keeps all that the
            pictures show.
        shrink: How far the variances are shrunk towards their mean: 0 whitens fully, 1 only
            centers and turns. With few landmarks the directions of large variance are those
            that tell them apart, and whitening harms; centering does not.
    """

    dimension: int | None = Field(default=None, ge=2)
    shrink: Fraction = 1.0


View = Literal["plain", "mirrored"]


def _different(views: tuple[View, ...]) -> tuple[View, ...]:
    if len(set(views)) < len(views):
        raise ValueError("a view stands there twice")
    return views


def _without_penalties(ranking: Ranking) -> Ranking:
    if ranking.penalized:
        raise ValueError("penalties need pictures of no landmark: give them to cairn-index build")
    return ranking


class EmbedderRecipe(_Frozen):
    """What becomes an embedder.

    Attributes:
        name: Of the embedder.
        network: What gives a picture its vector.
        embed: Preprocessing of pictures to be embedded: travels in the embedder.
        embed_views: A picture's vector is the mean over these views of it, scaled to length 1;
            each of them costs as much time as one.
        embed_whiten: Whiten the vectors; learned from the training pictures when a run ends.
        ranking: How galleries of the embedder answer where they are not told otherwise.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    network: NetworkRecipe
    embed: Preprocess
    embed_views: Annotated[tuple[View, ...], Field(min_length=1), AfterValidator(_different)] = (
        "plain",
    )
    embed_whiten: WhitenRecipe | None = None
    ranking: Annotated[Ranking, AfterValidator(_without_penalties)] = Ranking()

    def to_yaml(self) -> str:
        """Write the resolved recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


class Recipe(EmbedderRecipe):
    """A whole training run. Training uses filter, mean and std of ``embed`` at the stage's side.

    Attributes:
        seed: Of everything random.
        networks: So many are trained, one after another, each from a seed of its own that no
            other ``seed`` leads to; they become one embedder, which joins their vectors.
        precision: ``auto`` computes in bfloat16 where the processor has it.
        ema: Decay of the moving average of the weights that is validated and exported; 0
            takes the weights as they are.
        compile: Compile the network by ``torch.compile``: slow to begin, then faster.
        log: ``tensorboard`` writes losses, rates and scores to ``tensorboard/`` in the run.
        save_seconds: Longest time between two checkpoints; one is also written after each epoch.
    """

    seed: int = Field(default=0, ge=0)
    networks: int = Field(default=1, ge=1, le=16)
    precision: Literal["auto", "f32", "bf16"] = "auto"
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    compile: bool = False
    log: Literal["nothing", "tensorboard"] = "nothing"
    save_seconds: Annotated[float, Field(ge=0, le=60)] = 45.0
    data: DataRecipe = DataRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    head: Annotated[HeadRecipe, Field(discriminator="kind")]
    optimizer: OptimizerRecipe = OptimizerRecipe()
    stages: tuple[StageRecipe, ...] = Field(min_length=1)

    def of_each(self) -> tuple[Recipe, ...]:
        """Write the recipe of each network, as if it were alone."""
        if self.networks == 1:
            return (self,)
        return tuple(
            self.model_copy(
                update={
                    "name": f"{self.name}-{number + 1}",
                    "seed": self.seed * self.networks + number,
                    "networks": 1,
                }
            )
            for number in range(self.networks)
        )

    def outcome(self) -> str:
        """Write what decides the outcome; the rest may change when a run is taken up again.

        That rest is how the work is done, parts of steps, workers, compiling, logs, checkpoints,
        and the ranking, which no network sees. What recipes could not say when older runs were
        made is left out where it says nothing: these can be taken up still.
        """
        content = self.model_dump(mode="json")
        for manner in ("compile", "log", "save_seconds", "ranking"):
            del content[manner]
        del content["data"]["workers"]
        if self.networks == 1:
            del content["networks"]
        if not self.network.frozen:
            del content["network"]["frozen"]
        for stage in content["stages"]:
            del stage["accumulate"]
        return yaml.safe_dump(content, sort_keys=False)


class EnsembleRecipe(_Frozen):
    """Several networks whose vectors are joined into one.

    Attributes:
        name: Of the embedder.
        members: Recipe files, relative to this one; their order is that of the vectors.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    members: tuple[str, ...] = Field(min_length=2)


def load_ensemble(path: Path) -> tuple[EnsembleRecipe, tuple[str, ...]]:
    """Read and validate the recipe of an ensemble, with those of its members.

    Returns:
        The recipe, and its members' names.

    Raises:
        RecipeError: Every fault of the file, or of a member's.
    """
    recipe = validated(EnsembleRecipe, read_inherited(path), str(path))
    names = tuple(load_recipe(path.parent / member).name for member in recipe.members)
    if len(set(names)) < len(names):
        raise RecipeError(str(path), (Fault("members", "two of them have one name"),))
    return recipe, names


def validated(kind: type[_Kind], content: object, what: str) -> _Kind:
    """Validate a recipe of some kind.

    Args:
        kind: The kind.
        content: Mappings, lists and values.
        what: Its name in the error.

    Raises:
        RecipeError: Every fault.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise RecipeError(what, _faults(error)) from error


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        path: The YAML file; it may extend others, see :mod:`trainer.recipe.inheritance`.
        overrides: ``key=value`` with dotted keys, ``stages.0.epochs=2``, applied before
            validation; values are YAML.

    Raises:
        RecipeError: Every fault of the file and the overrides.
    """
    content = read_inherited(path)
    faults = [fault for text in overrides if (fault := _override(content, text))]
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        faults += _faults(error)
    if faults:
        raise RecipeError(str(path), tuple(faults))
    return recipe


def _faults(error: ValidationError) -> tuple[Fault, ...]:
    return tuple(
        Fault(".".join(map(str, fault["loc"])) or "recipe", fault["msg"])
        for fault in error.errors()
    )


def _override(content: Any, text: str) -> Fault | None:  # noqa: ANN401 - any YAML value
    """Set one ``key=value`` in the parsed YAML, in place; tell what is wrong with it."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        return Fault(text, "an override is written key=value")
    *parents, last = key.split(".")
    try:
        for part in parents:
            content = (
                content[int(part)] if isinstance(content, list) else content.setdefault(part, {})
            )
        parsed = _scalar(value)
        if isinstance(content, list):
            content[int(last)] = parsed
        else:
            content[last] = parsed
    except (TypeError, ValueError, IndexError, AttributeError, yaml.YAMLError):
        return Fault(key, "there is no such place in the recipe")
    return None


def _scalar(value: str) -> Any:  # noqa: ANN401 - any YAML value
    """Parse a YAML value; unlike YAML 1.1, ``3e-4`` is a number."""
    try:
        return float(value) if "e" in value.lower() else yaml.safe_load(value)
    except ValueError:
        return yaml.safe_load(value)
