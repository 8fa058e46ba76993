"""When a run writes checkpoints: now and then, at the ends of epochs, when told to end."""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from embedder.errors import RunInterruptedError
from trainer.distributed import processes
from trainer.training.checkpoint_writer import CheckpointWriter
from trainer.training.interruption import Interruption
from trainer.training.run_setup import RunContext
from trainer.training.state import TrainingState

_FIRST_LOOK = 2
"""After the first step the optimizer has its moments, and memory for a copy can be had."""


class Checkpoints(ExitStack):
    """Saves the state of a run; the first process has the writer.

    While it is open, SIGTERM and SIGINT end the run with :class:`RunInterruptedError`: between
    steps by the next :meth:`save`; elsewhere at once, since a checkpoint is written before
    everything that follows an epoch.

    Attributes:
        longest_stop: Seconds that the longest save between steps has taken, in this epoch.
    """

    def __init__(self, context: RunContext, state: TrainingState) -> None:
        super().__init__()
        self._context = context
        self._state = state
        self._interruption = Interruption()
        self._writer = CheckpointWriter(context.out) if processes.is_first() else None
        self._saved_at = time.monotonic()
        self._looks = 0
        self.longest_stop = 0.0

    def __enter__(self) -> Self:
        """Begin to notice signals."""
        if self._writer:
            self.callback(self._writer.close)
        self.enter_context(self._interruption.handled())
        return self

    @contextmanager
    def between_steps(self) -> Iterator[None]:
        """Let signals wait for :meth:`save`."""
        self.longest_stop = 0.0
        with self._interruption.deferred():
            yield

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Save, and let signals end at once what is done then, even between steps."""
        self.save()
        with self._interruption.immediate():
            yield

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint, and none is being written; of the first process."""
        if not self._writer:
            return False
        self._writer.raise_error()
        self._looks += 1
        due = time.monotonic() - self._saved_at > self._context.recipe.save_seconds
        if self._looks == _FIRST_LOOK or due:
            return self._writer.ready(self._state.tensors()) and due
        return False

    def request(self) -> None:
        """Let a checkpoint be due after the next step."""
        self._saved_at = -math.inf

    @property
    def stop_requested(self) -> bool:
        """Whether this process has been told to end."""
        return self._interruption.requested

    def save(self) -> None:
        """Copy the state, to be written in the background; every process has to call this.

        Raises:
            RunInterruptedError: A process was told to end; the checkpoint is written.
        """
        started = time.monotonic()
        rng_states = self._state.gather_rng_states()
        stop = any(processes.gather(self.stop_requested))
        if self._writer:
            facts = self._state.facts(self._context.digest)
            self._writer.save(self._state.tensors() | rng_states, facts)
        self._saved_at = time.monotonic()
        self.longest_stop = max(self.longest_stop, self._saved_at - started)
        if stop:
            self.wait()
            raise RunInterruptedError

    def wait(self) -> None:
        """Wait until everything is written."""
        if self._writer:
            self._writer.wait()
