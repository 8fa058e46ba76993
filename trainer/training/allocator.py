"""The C library's allocator and the GPU's kernels, and advice when memory is not enough."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from embedder.errors import TrainingError
from trainer.recipe import StageRecipe
from trainer.training.run_setup import RunContext

_OUT_OF_MEMORY = ("DefaultCPUAllocator", "shared memory", "killed by signal")
"""Parts of torch's messages where it raises no type of its own: on the CPU and in workers."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3)
_NEVER = -1


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and reuse it; tell whether it can (glibc).

    The C library returns every large block to the system at once, so that each training step on
    the CPU gets all its activations anew, zeroed page by page: without that, a step of MobileNetV2
    at 192 pixels takes 0.75 to 0.85 of the time. The process and its forks then hold their
    largest demand until they end.
    """
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))


def use_fast_kernels(context: RunContext) -> None:
    """Let an NVIDIA device multiply float32 as TF32, and choose convolutions by measuring them.

    Not where the recipe asks for float32.
    """
    if context.device.type == "cuda" and context.precision != "f32":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True


@contextmanager
def out_of_memory_advice(number: int, stage: StageRecipe, last: Path) -> Iterator[None]:
    """Turn a lack of memory in a stage, numbered from 0, into advice.

    Raises:
        TrainingError: The memory was not enough; ``last`` is the checkpoint to resume from.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's error is a RuntimeError
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not lacking and not any(part in str(error) for part in _OUT_OF_MEMORY):
            raise
        at_once = -(-stage.batch_size // stage.accumulate)
        raise TrainingError(
            f"the memory is not enough for {at_once} pictures of {stage.side} pixels at once. "
            f"Continue by --resume with --set stages.{number}.accumulate={2 * stage.accumulate}, "
            "which computes the same batch in smaller parts, with fewer data.workers, or with "
            f"more processes; {last} is the last good state, if there is one"
        ) from error
