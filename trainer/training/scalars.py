"""Event files for TensorBoard; the device is never waited for between two flushes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Scalars:
    """Writes event files; losses stay on the device until :meth:`flush`.

    Args:
        folder: Where the files go; None writes nothing.
        step: Number of the next step; what an interrupted run wrote from there on is hidden.
    """

    def __init__(self, folder: Path | None, *, step: int) -> None:
        self._writer: SummaryWriter | None = None
        self._pending: list[tuple[int, Tensor, float]] = []
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            self._writer = SummaryWriter(str(folder), purge_step=step)

    def step(self, number: int, loss: Tensor, *, rate: float) -> None:
        """Record the loss and the backbone's learning rate of a step."""
        if self._writer is not None:
            self._pending.append((number, loss, rate))

    def values(self, number: int, values: dict[str, float]) -> None:
        """Write what was measured at a step, by name."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"step/{name}", value, number)
            self.flush()

    def epoch(self, number: int, values: dict[str, float]) -> None:
        """Write the metrics of an epoch that ended with that step, by name."""
        self.flush()
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"epoch/{name}", value, number)
            self._writer.flush()

    def flush(self) -> None:
        """Fetch the losses from the device and write them."""
        if self._writer is None or not self._pending:
            return
        losses = torch.stack([loss for _, loss, _ in self._pending]).tolist()
        for (number, _, rate), loss in zip(self._pending, losses, strict=True):
            self._writer.add_scalar("step/loss", loss, number)
            self._writer.add_scalar("step/rate", rate, number)
        self._pending.clear()
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
