"""Memory that is kept between steps, and what to do when it is not enough, in words."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from embedder.errors import TrainingError
from trainer.recipe import StageRecipe

_SIGNS = ("DefaultCPUAllocator", "shared memory", "killed by signal")
"""How torch words it on the CPU, and between processes, where it raises no type of its own."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3)
_NEVER = -1


def keep_memory() -> bool:
    """Have this process keep what it frees, for the next time it asks.

    The C library returns every large block to the system at once, so that each step of a training
    on the CPU gets all its activations anew, zeroed page by page: without that, a step of
    MobileNetV2 at 192 pixels takes 0.75 to 0.85 of the time. The process, and those that it forks,
    then hold the most that they ever needed until they end.

    Returns:
        Whether the C library can be told so; that of GNU can.
    """
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))


@contextmanager
def enough_memory(number: int, stage: StageRecipe, last: Path) -> Iterator[None]:
    """Turn a lack of memory into advice.

    Args:
        number: Of the stage, from 0.
        stage: What it was asked to do.
        last: Checkpoint to go on from.

    Raises:
        TrainingError: The memory was not enough.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(_advice(number, stage, last)) from error
    except RuntimeError as error:
        if any(sign in str(error) for sign in _SIGNS):
            raise TrainingError(_advice(number, stage, last)) from error
        raise


def _advice(number: int, stage: StageRecipe, last: Path) -> str:
    at_once = -(-stage.batch_size // stage.accumulate)
    return (
        f"the memory is not enough for {at_once} pictures of {stage.side} pixels at once. Go on by "
        f"--resume with --set stages.{number}.accumulate={2 * stage.accumulate}, which computes "
        f"the same batch in smaller parts, with fewer data.workers, or with more processes; {last} "
        "is the last good state, if there is one"
    )
