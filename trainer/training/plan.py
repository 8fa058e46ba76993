"""What a run is about to do: steps, memory, disk; and how long the rest of it takes."""

import logging
import shutil
from collections.abc import Iterable
from itertools import chain

from torch import Tensor

from embedder.errors import TrainingError
from trainer.distributed import processes
from trainer.model import run_folder
from trainer.model.checkpoint import Progress
from trainer.training.run_setup import RunContext
from trainer.training.state import TrainingState

_log = logging.getLogger(__name__)

_CHECKPOINTS = 3
"""The last one, the one before it, and the one that is being written."""


def count_steps(context: RunContext, number: int) -> int:
    """Return the steps of an epoch of a stage, numbered from 0."""
    stage, pictures = context.recipe.stages[number], context.training_sets[number].photographs
    return min(max(1, len(pictures) // stage.batch_size), stage.steps or len(pictures))


def announce_plan(context: RunContext, state: TrainingState) -> None:
    """Log what is about to be done.

    Raises:
        TrainingError: The disk has no room for the checkpoints.
    """
    for number, stage in enumerate(context.recipe.stages):
        training_set, steps = context.training_sets[number], count_steps(context, number)
        _log.info(
            "stage %d: %d pictures of %d landmarks at %d pixels; %d epochs of %d steps of %d",
            number + 1,
            len(training_set.photographs),
            len(training_set.landmarks),
            stage.side,
            stage.last_epoch,
            steps,
            stage.batch_size,
        )
    network, head, moments = _measure_parts(context, state)
    averaged = network if state.averaged is not state.network else 0
    checkpoint = network + head + moments + averaged
    _log.info(
        "memory beside activations: network %s, head %s, optimizer %s, average %s, gradients %s, "
        "copy for checkpoints %s; disk: %s",
        *map(_gigabytes, (network, head, moments, averaged, network + head, checkpoint)),
        _gigabytes(_CHECKPOINTS * checkpoint + network + head),
    )
    if processes.is_first():  # it writes them, and has made the folder
        _require_disk(context, _CHECKPOINTS * checkpoint + network + head)


def estimate_seconds(context: RunContext, progress: Progress, seconds_per_pixel: float) -> float:
    """Estimate the time that the steps still to come take, validations apart.

    Args:
        context: The run's.
        progress: How far it has come.
        seconds_per_pixel: Time of a step, divided by the pixels of its pictures; all stages are
            taken to need the same.
    """
    pixels = 0
    for number, stage in enumerate(context.recipe.stages[progress.stage :], progress.stage):
        steps = stage.last_epoch * count_steps(context, number)
        if number == progress.stage:
            steps -= progress.epoch * count_steps(context, number) + progress.step
        pixels += steps * pixels_of_step(context, number)
    return pixels * seconds_per_pixel


def pixels_of_step(context: RunContext, number: int) -> int:
    """Return the pixels of a batch of a stage, numbered from 0."""
    stage = context.recipe.stages[number]
    return stage.batch_size * stage.side**2


def _measure_parts(context: RunContext, state: TrainingState) -> tuple[int, int, int]:
    """Measure network, largest head and the optimizer's moments of both, in bytes."""
    network = _bytes(chain(state.network.parameters(), state.network.buffers()))
    most = max(len(training_set.landmarks) for training_set in context.training_sets)
    head = _bytes(state.head.parameters()) // len(state.landmarks) * most
    moments = 1 if context.recipe.optimizer.kind == "sgd" else 2
    return network, head, moments * (network + head)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _require_disk(context: RunContext, needed: int) -> None:
    there = (context.out / name for name in (run_folder.LAST, run_folder.PREVIOUS, run_folder.BEST))
    free = shutil.disk_usage(context.out).free + sum(p.stat().st_size for p in there if p.exists())
    if free < needed:
        raise TrainingError(
            f"the checkpoints of this run need {_gigabytes(needed)} in {context.out}, and "
            f"{_gigabytes(free)} are free: make room, or choose another folder"
        )


def _gigabytes(size: int) -> str:
    """Write a number of bytes.

    >>> _gigabytes(2_345_000_000), _gigabytes(12_000)
    ('2.35 GB', '0.00 GB')
    """
    return f"{size / 1e9:.2f} GB"
