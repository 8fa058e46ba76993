"""The whole recipe of a training run, of an embedder without training, and of an ensemble."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field

from embedder.artifacts.documents import FrozenModel
from embedder.manifest import Preprocess
from index.ranking.ranking import Ranking
from trainer.recipe.data import AugmentRecipe, DataRecipe, ValidationRecipe
from trainer.recipe.fields import Fraction, FractionBelowOne, Name
from trainer.recipe.head import HeadRecipe
from trainer.recipe.network import NetworkRecipe
from trainer.recipe.stage import OptimizerRecipe, StageRecipe


class WhitenRecipe(FrozenModel):
    """PCA whitening of the embeddings.

    Attributes:
        dimension: Principal directions that are kept, those of largest variance; None keeps all
            that the pictures determine.
        shrink: How far the variances are shrunk towards their mean: 0 whitens fully, 1 only
            centers and rotates. With few landmarks the directions of large variance are those
            that tell them apart, and whitening harms; centering does not.
    """

    dimension: int | None = Field(default=None, ge=2)
    shrink: Fraction = 1.0


View = Literal["plain", "mirrored"]


def _check_distinct(views: tuple[View, ...]) -> tuple[View, ...]:
    if len(set(views)) < len(views):
        raise ValueError("a view is listed twice")
    return views


def _check_no_penalties(ranking: Ranking) -> Ranking:
    if ranking.penalized:
        raise ValueError("penalties need pictures of no landmark: give them to cairn-index build")
    return ranking


class EmbedderRecipe(FrozenModel):
    """An embedder.

    Attributes:
        name: Name of the embedder.
        network: The network that embeds a picture.
        embed: Preprocessing of pictures to be embedded; stored in the embedder.
        embed_views: A picture's embedding is the mean over these views of it, scaled to length
            1; each of them costs as much time as one.
        embed_whiten: Whiten the embeddings; learned from the training pictures when a run ends.
        ranking: Default ranking of galleries built with the embedder.
    """

    name: Name
    network: NetworkRecipe
    embed: Preprocess
    embed_views: Annotated[
        tuple[View, ...], Field(min_length=1), AfterValidator(_check_distinct)
    ] = ("plain",)
    embed_whiten: WhitenRecipe | None = None
    ranking: Annotated[Ranking, AfterValidator(_check_no_penalties)] = Ranking()

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides in pixels of all pictures that the network is given."""
        return (self.embed.side,)

    def to_yaml(self) -> str:
        """Write the resolved recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


class Recipe(EmbedderRecipe):
    """A training run. Training uses filter, mean and std of ``embed`` at the stage's side.

    Attributes:
        seed: Seed of everything random.
        networks: Number of networks to train, one after another, each from a seed of its own
            that no other ``seed`` leads to; they are exported as one embedder, which joins
            their vectors.
        precision: ``auto`` computes in bfloat16 where the processor has it, else on an NVIDIA
            GPU in float16 with a scaled loss, else in float32.
        ema: Decay of the moving average of the weights that is validated and exported; 0
            uses the weights as they are.
        compile: Compile the network by ``torch.compile``: slow to start, then faster.
        log: ``tensorboard`` writes losses, rates and scores to ``tensorboard/`` in the run.
        save_seconds: Time between two checkpoints; one is also written at the end of each epoch.
        data: The photographs.
        validation: When the network is scored, and on how many of them.
        augment: Random changes to training pictures.
        head: The loss.
        optimizer: The optimizer.
        stages: What is done in which order.
    """

    seed: int = Field(default=0, ge=0)
    networks: int = Field(default=1, ge=1, le=16)
    precision: Literal["auto", "f32", "bf16", "fp16"] = "auto"
    ema: FractionBelowOne = 0.0
    compile: bool = False
    log: Literal["nothing", "tensorboard"] = "nothing"
    save_seconds: Annotated[float, Field(ge=0)] = 45.0
    data: DataRecipe = DataRecipe()
    validation: ValidationRecipe = ValidationRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    head: Annotated[HeadRecipe, Field(discriminator="kind")]
    optimizer: OptimizerRecipe = OptimizerRecipe()
    stages: tuple[StageRecipe, ...] = Field(min_length=1)

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides in pixels of all pictures that the network is given, in training too."""
        return (self.embed.side, *(stage.side for stage in self.stages))

    def per_network(self) -> tuple[Recipe, ...]:
        """Return the single-network recipe of each network."""
        if self.networks == 1:
            return (self,)
        first = self.seed * self.networks
        changes = [
            {"name": f"{self.name}-{number + 1}", "seed": first + number, "networks": 1}
            for number in range(self.networks)
        ]
        return tuple(self.model_copy(update=own) for own in changes)

    def validation_preprocess(self, stage: int) -> Preprocess:
        """Return how pictures are prepared to score the network in a stage."""
        side = self.stages[stage].side
        if side == self.stages[-1].side:
            return self.embed
        return self.embed.model_copy(update={"side": side})

    def outcome(self) -> str:
        """Write what decides the outcome as YAML; the rest may change when a run is resumed.

        That rest is how the work is done (accumulation, workers, compiling, logs, checkpoints)
        and the ranking, which training does not use. Fields that older recipes did not have are
        left out at their defaults, so that older runs keep their digest.
        """
        content = self.model_dump(mode="json")
        for name in ("compile", "log", "save_seconds", "ranking"):
            del content[name]
        del content["data"]["workers"]
        _drop_defaults(content, networks=1)
        _drop_defaults(content["network"], frozen=[])
        _drop_defaults(content["augment"], cutout_fill="mean")
        _drop_defaults(content["head"], label_smoothing=0.0)
        if self.validation == ValidationRecipe():
            del content["validation"]
        for stage in content["stages"]:
            del stage["accumulate"]
            _drop_defaults(stage, steps=None)
            _drop_defaults(stage["schedule"], by_epoch=False)
        return yaml.safe_dump(content, sort_keys=False)


def _drop_defaults(fields: dict[str, Any], **defaults: object) -> None:
    """Drop fields that older recipes did not have, where they have their defaults."""
    for name, default in defaults.items():
        if fields.get(name, default) == default:
            fields.pop(name, None)


class EnsembleRecipe(FrozenModel):
    """Several embedders whose vectors are concatenated.

    Attributes:
        name: Name of the embedder.
        members: Recipe files, relative to this one; their order is that of the vectors.
    """

    name: Name
    members: tuple[str, ...] = Field(min_length=2)
