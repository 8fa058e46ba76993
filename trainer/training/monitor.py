"""What is seen of a run while it trains: progress bar, curves, estimate of the time left.

The device is waited for once in an interval, not at every step.
"""

import datetime
import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from trainer.distributed import processes
from trainer.model import run_folder
from trainer.training.plan import estimate_seconds, pixels_of_step
from trainer.training.run_setup import RunContext
from trainer.training.scalars import Scalars
from trainer.training.state import TrainingState

T = TypeVar("T")

INTERVAL_SECONDS = 10.0
"""Time between two looks at loss, gradients and speed."""

ESTIMATED_AFTER = 20
"""Steps after which the time left is estimated; the first of them are slow."""

_log = logging.getLogger(__name__)


class Monitor:
    """Shows the progress of a run; only in the first process.

    Args:
        context: The run's.
        state: Of the run.
    """

    def __init__(self, context: RunContext, state: TrainingState) -> None:
        self._context = context
        self._state = state
        curves = context.recipe.log == "tensorboard" and processes.is_first()
        folder = context.out / run_folder.TENSORBOARD if curves else None
        self.scalars = Scalars(folder, step=state.updates + 1)
        self._estimated = False
        self._loss: Tensor | float = 0.0
        self._looked_at = self._measured_from = 0.0
        self._start_epoch()

    def show(self, batches: Iterable[T], steps: int) -> Iterator[T]:
        """Yield the batches of an epoch beside a progress bar."""
        progress = self._state.progress
        stage = self._context.recipe.stages[progress.stage]
        self._bar = tqdm(
            batches,
            desc=f"stage {progress.stage + 1} epoch {progress.epoch + 1}/{stage.last_epoch}",
            total=steps,
            initial=progress.step,
            unit="batch",
            disable=not processes.is_first(),
        )
        self._start_epoch()
        with self._bar:  # closed before an error is printed
            yield from self._bar

    def step(self, loss: Tensor, pictures: int, *, rate: float) -> None:
        """Record a step: its loss, its pictures, the backbone's learning rate."""
        self.scalars.step(self._state.updates, loss, rate=rate)
        self._steps += 1
        self._losses += 1
        self._pictures += pictures
        self._loss = self._loss + loss
        now = time.monotonic()
        if self._steps == ESTIMATED_AFTER // 4:
            self._measured_from = now
        if not self._estimated and self._steps == ESTIMATED_AFTER:
            self._estimate(now)
        if processes.is_first() and now - self._looked_at >= INTERVAL_SECONDS:
            self._look(now)

    def close(self) -> None:
        """Close the files of curves."""
        self.scalars.close()

    def _start_epoch(self) -> None:
        self._steps = self._losses = self._pictures = 0
        self._loss = 0.0
        self._looked_at = self._measured_from = time.monotonic()

    def _look(self, now: float) -> None:
        """Show loss, gradient norms and speed of the last interval, and write them as curves."""
        pace = self._pictures / (now - self._looked_at)
        norms = self._state.gradient_norms()
        self._bar.set_postfix(
            loss=f"{float(self._loss) / self._losses:.3f}",
            gradient="/".join(f"{norm:.2g}" for norm in norms.values()),
            pictures=f"{pace:.0f}/s",
        )
        values = {f"gradient_{name}": norm for name, norm in norms.items()}
        self.scalars.values(self._state.updates, {**values, "pictures_per_second": pace})
        self._pictures, self._losses, self._loss, self._looked_at = 0, 0, 0.0, now

    def _estimate(self, now: float) -> None:
        self._estimated = True
        if torch.cuda.is_available():  # steps are queued: wait for those that are counted
            torch.cuda.synchronize()
            now = time.monotonic()
        context, progress = self._context, self._state.progress
        steps = ESTIMATED_AFTER - ESTIMATED_AFTER // 4
        seconds = (now - self._measured_from) / steps
        left = estimate_seconds(
            context, progress, seconds / pixels_of_step(context, progress.stage)
        )
        _log.info(
            "%.2f s a step: about %s for the steps still to come, beside validations",
            seconds,
            datetime.timedelta(seconds=round(left)),
        )
