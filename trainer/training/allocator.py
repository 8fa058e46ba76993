"""The C library's allocator in training, and advice when memory is not enough."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from embedder.errors import TrainingError
from trainer.recipe import StageRecipe

_OUT_OF_MEMORY = ("DefaultCPUAllocator", "shared memory", "killed by signal")
"""Parts of torch's messages where it raises no type of its own: on the CPU and in workers."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3)
_NEVER = -1


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and reuse it.

    The C library returns every large block to the system at once, so that each training step on
    the CPU gets all its activations anew, zeroed page by page: without that, a step of MobileNetV2
    at 192 pixels takes 0.75 to 0.85 of the time. The process and its forks then hold their
    largest demand until they end.

    Returns:
        Whether the C library can do so; that of GNU can.
    """
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))


@contextmanager
def out_of_memory_advice(number: int, stage: StageRecipe, last: Path) -> Iterator[None]:
    """Turn a lack of memory in a stage into advice.

    Args:
        number: Of the stage, from 0.
        stage: Its recipe.
        last: Checkpoint to resume from.

    Raises:
        TrainingError: The memory was not enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's error is a RuntimeError
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if lacking or any(part in str(error) for part in _OUT_OF_MEMORY):
            raise TrainingError(_advice(number, stage, last)) from error
        raise


def _advice(number: int, stage: StageRecipe, last: Path) -> str:
    at_once = -(-stage.batch_size // stage.accumulate)
    return (
        f"the memory is not enough for {at_once} pictures of {stage.side} pixels at once. Continue "
        f"by --resume with --set stages.{number}.accumulate={2 * stage.accumulate}, which computes "
        f"the same batch in smaller parts, with fewer data.workers, or with more processes; {last} "
        "is the last good state, if there is one"
    )
