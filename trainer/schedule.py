"""How learning rates change over a stage: pure functions of how far it has come."""

from __future__ import annotations

import math

from trainer.recipe import OneCycle, StageRecipe


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
    if isinstance(schedule, OneCycle):
        rise = schedule.rise * stage.epochs
        if epochs_done < rise:
            return 0.04 + 0.96 * epochs_done / rise
    else:
        rise = min(schedule.warmup_epochs, stage.epochs)
        if epochs_done < rise:
            return schedule.warmup_factor
    fallen = min(1.0, (epochs_done - rise) / max(stage.epochs - rise, 1e-9))
    return 0.5 * (1 + math.cos(math.pi * fallen))
