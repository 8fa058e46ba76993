"""How learning rates change over a stage: pure functions of how far it has come."""

from __future__ import annotations

import math

from trainer.recipe import StageRecipe
from trainer.recipe.stage import Constant, Cosine, Halving, OneCycle


def rate_factor(stage: StageRecipe, epochs_done: float) -> float:
    """Return what the stage's full learning rates are multiplied by.

    Args:
        stage: Its schedule and planned epochs; ``stop_at_epoch`` cuts the curve short and
            does not squeeze it.
        epochs_done: Epochs since the stage began, with fractions.

    >>> stage = StageRecipe(side=96, epochs=10, batch_size=8, lr=1, head_lr=1,
    ...                     schedule={"kind": "cosine", "warmup_epochs": 1, "warmup_factor": 0.1})
    >>> [round(rate_factor(stage, epoch), 3) for epoch in (0, 0.5, 1, 5.5, 10)]
    [0.1, 0.1, 1.0, 0.5, 0.0]
    """
    schedule = stage.schedule
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
