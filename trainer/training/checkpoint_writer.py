"""Write checkpoints from a copy of the state, in a thread, while the training goes on."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from embedder.errors import TrainingError
from trainer.model import checkpoint, run_folder


class CheckpointWriter:
    """Writes the last checkpoint of a run, and keeps the one before it.

    The training stops while its tensors are copied, 2.3 GB in half a second on two busy CPU
    cores; checking, writing and syncing are left to the thread. The copy is kept for the next
    time: it costs as much memory as a checkpoint has bytes, page-locked where there is an NVIDIA
    device. An error of the thread is raised by whichever method is called next.

    Args:
        run: Folder of the run.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._job: Future[None] | None = None
        self._copy: dict[str, Tensor] = {}

    def ready(self, tensors: Mapping[str, Tensor]) -> bool:
        """Tell whether :meth:`save` would not have to wait; let memory for the copy be had."""
        if self._job and not self._job.done():
            return False
        self.wait()
        if self._fits(tensors):
            return True
        self._job = self._thread.submit(self._allocate, dict(tensors))
        return False

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Copy tensors, and let the copy be written with these facts; may wait for the last one."""
        self.wait()
        if not self._fits(tensors):
            self._allocate(tensors)
        for name, tensor in tensors.items():
            self._copy[name].copy_(tensor.detach(), non_blocking=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._job = self._thread.submit(self._write, facts)

    def wait(self) -> None:
        """Wait for the thread.

        Raises:
            TrainingError: The state was not finite; the checkpoint before it stays.
            OSError: It cannot be written, as to a full disk.
        """
        job, self._job = self._job, None
        if job:
            job.result()

    def raise_error(self) -> None:
        """Raise what :meth:`wait` would, without waiting."""
        if self._job and self._job.done():
            self.wait()

    def close(self) -> None:
        """Let a copy that is taken be written, and end the thread; errors are lost."""
        self._thread.shutdown()

    def _fits(self, tensors: Mapping[str, Tensor]) -> bool:
        shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
        return shapes == {name: (copy.shape, copy.dtype) for name, copy in self._copy.items()}

    def _allocate(self, tensors: Mapping[str, Tensor]) -> None:
        """Get memory for copies of tensors; writing to it has the system hand it out now."""
        self._copy.clear()
        pinned = torch.cuda.is_available()
        self._copy = {
            name: torch.zeros(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
            for name, tensor in tensors.items()
        }

    def _write(self, facts: Mapping[str, Any]) -> None:
        if not all(map(is_finite, self._copy.values())):
            raise not_finite(self._run)
        last, before = (self._run / name for name in (run_folder.LAST, run_folder.PREVIOUS))
        checkpoint.save(last, self._copy, facts, before=before)


def is_finite(tensor: Tensor) -> bool:
    """Tell whether all numbers of a tensor are finite, without memory for an answer to each."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(bool(extreme.isfinite()) for extreme in tensor.detach().aminmax())


def not_finite(run: Path) -> TrainingError:
    """Make the error of a run whose loss or weights are not finite."""
    return TrainingError(
        f"the loss is not finite; {run / run_folder.LAST} is the last good state, if there is "
        "one. Lower the learning rates, set optimizer.clip_norm, or compute with precision=f32"
    )
