"""The stages of a training: epochs, batches, optimizer, and how the learning rates change."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from embedder.artifacts.documents import FrozenModel
from trainer.recipe.fields import Fraction


class OneCycle(FrozenModel):
    """Rise linearly for a fraction of the stage, then fall to zero along a cosine."""

    kind: Literal["one-cycle"]
    rise: Fraction = 0.15


class Cosine(FrozenModel):
    """Warm up at a fraction of the full rate for some epochs, then fall along a cosine.

    Attributes:
        warmup_epochs: Epochs at the fraction.
        warmup_factor: The fraction.
        by_epoch: Change the rate between epochs only, so that the first epoch after the warm-up
            runs at the full rate.
    """

    kind: Literal["cosine"]
    warmup_epochs: float = Field(default=1.0, ge=0)
    warmup_factor: Fraction = 0.1
    by_epoch: bool = False


class Halving(FrozenModel):
    """Rise linearly, then halve with every epoch, down to a floor.

    Attributes:
        start: Fraction of the full rate at which the rise begins.
        rise_epochs: Epochs until the full rate.
        floor: Smallest fraction of the full rate.
    """

    kind: Literal["halving"]
    start: Fraction = 0.025
    rise_epochs: float = Field(default=2.0, ge=0)
    floor: Fraction = 0.025


class Constant(FrozenModel):
    """The full rate throughout."""

    kind: Literal["constant"]


class StageRecipe(FrozenModel):
    """A part of the training at one picture size.

    Attributes:
        list: The list in a GLDv2 folder that this stage trains on; None takes that of ``data``.
            The network is kept; if the landmarks differ, head and optimizer start anew.
        side: Picture side in pixels.
        epochs: Passes over the training set that the schedule is planned for.
        stop_at_epoch: End the stage early here; None completes it.
        steps: Most steps of an epoch, which then takes a random part of the training set, each
            epoch another one; None: all of it. The schedule is planned for epochs of this length.
        batch_size: Pictures per step, over all processes.
        accumulate: Parts in which a step's pictures go through the network, to save memory. The
            gradient is that of the whole batch, except for batch norms, AdaCos's adaptive scales
            and sampled landmarks, which see one part at a time.
        lr: Full learning rate of the backbone.
        head_lr: Full learning rate of pooling, neck and head.
        frozen_epochs: First epochs in which the backbone is not trained.
        schedule: How the rates change over the stage.
    """

    list: str | None = None
    side: int = Field(ge=16, le=4096)
    epochs: int = Field(ge=1)
    stop_at_epoch: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(ge=2)
    accumulate: int = Field(default=1, ge=1)
    lr: float = Field(gt=0)
    head_lr: float = Field(gt=0)
    frozen_epochs: int = Field(default=0, ge=0)
    schedule: Annotated[OneCycle | Cosine | Halving | Constant, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _check_parts(self) -> StageRecipe:
        if self.batch_size < 2 * self.accumulate:
            raise ValueError("each part of a step needs two pictures: lower accumulate")
        return self

    @property
    def last_epoch(self) -> int:
        """Number of epochs that are run."""
        return min(self.epochs, self.stop_at_epoch or self.epochs)


class OptimizerRecipe(FrozenModel):
    """The optimizer.

    Attributes:
        kind: ``adamw`` decouples the weight decay, ``adam``, ``radam`` and ``sgd`` add it to the
            gradient (L2). ``sgd`` has a momentum of 0.9.
        weight_decay: Not applied to biases, norms and GeM's exponent.
        clip_norm: Largest norm of the network's gradient; None does not clip. That of the head
            is never clipped, as in the code of ArcFace's authors (InsightFace): with very many
            landmarks its norm says little about the network's.
    """

    kind: Literal["adamw", "adam", "radam", "sgd"] = "adamw"
    weight_decay: float = Field(default=1e-4, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)


def rate_factor(stage: StageRecipe, epochs_done: float) -> float:
    """Return what the stage's full learning rates are multiplied by.

    ``stop_at_epoch`` cuts the curve short and does not squeeze it. ``epochs_done`` counts from the
    beginning of the stage, with fractions.

    >>> stage = StageRecipe(side=96, epochs=10, batch_size=8, lr=1, head_lr=1,
    ...                     schedule={"kind": "cosine", "warmup_epochs": 1, "warmup_factor": 0.1})
    >>> [round(rate_factor(stage, epoch), 3) for epoch in (0, 0.5, 1, 5.5, 10)]
    [0.1, 0.1, 1.0, 0.5, 0.0]
    """
    schedule = stage.schedule
    if isinstance(schedule, Cosine) and schedule.by_epoch:
        epochs_done = math.floor(epochs_done)
    if isinstance(schedule, Constant):
        return 1.0
    if isinstance(schedule, Halving):
        return _halved(schedule, epochs_done)
    rise, factor = _rise(schedule, stage.epochs, epochs_done)
    if epochs_done < rise:
        return factor
    fallen = min(1.0, (epochs_done - rise) / max(stage.epochs - rise, 1e-9))
    return 0.5 * (1 + math.cos(math.pi * fallen))


def _rise(schedule: OneCycle | Cosine, epochs: int, epochs_done: float) -> tuple[float, float]:
    """Return how many epochs the rise takes, and the factor while it lasts."""
    if isinstance(schedule, OneCycle):
        rise = schedule.rise * epochs
        return rise, 0.04 + 0.96 * epochs_done / rise if rise else 1.0
    return min(schedule.warmup_epochs, epochs), schedule.warmup_factor


def _halved(schedule: Halving, epochs_done: float) -> float:
    """Rise linearly; an epoch after the peak begin to halve at the start of each epoch.

    >>> schedule = Halving(kind="halving", start=0.1, rise_epochs=2, floor=0.2)
    >>> [round(_halved(schedule, epoch), 3) for epoch in (0, 1, 2, 2.9, 3, 4, 9)]
    [0.1, 0.55, 1.0, 1.0, 0.5, 0.25, 0.2]
    """
    if epochs_done < schedule.rise_epochs:
        risen = epochs_done / schedule.rise_epochs
        return schedule.start + (1 - schedule.start) * risen
    halvings = math.floor(epochs_done - schedule.rise_epochs)
    return max(schedule.floor, 0.5**halvings)
