"""How long the network waits for data."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from trainer.distributed import processes

T = TypeVar("T")

_WORTH_ADVICE = 0.05
"""Share of the time from which on waiting is worth a remedy."""


class DataWait:
    """Measures how long a network on a device waits for batches.

    On an NVIDIA device work is queued and the program runs ahead of it: there the device itself
    measures how long it had nothing to do between two steps.
    """

    def __init__(self, device: torch.device) -> None:
        self._waited = self._total = 0.0
        self._pictures = 0
        self._cuda = device.type == "cuda"
        self._step_end: torch.cuda.Event | None = None
        self._gaps: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    def measure(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the batches; the time between two of them counts as the network's work."""
        iterator = iter(batches)
        started = time.monotonic()
        while (batch := next(iterator, None)) is not None:
            if self._step_end is None:  # the first batch; on a CPU, every one
                self._waited += time.monotonic() - started
            else:
                self._gaps.append((self._step_end, _record_event()))
                self._add_gaps(wait=False)
            yield batch
            if self._cuda:
                self._step_end = _record_event()
            self._total += time.monotonic() - started
            started = time.monotonic()
        self._add_gaps(wait=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave work between two batches out that is not the step's, such as a validation."""
        started = time.monotonic()
        yield
        self._total -= time.monotonic() - started

    def add_pictures(self, number: int) -> None:
        """Count the pictures of a step, of all processes together."""
        self._pictures += number

    def measured(self) -> dict[str, float]:
        """Return the seconds of loading and of computing, and the pictures of a second of both.

        They are those of the process that waited longest.
        """
        waited, total = max(processes.gather((self._waited, self._total)))
        return {
            "seconds_loading": round(waited, 1),
            "seconds_computing": round(total - waited, 1),
            "pictures_per_second": round(self._pictures / total, 1) if total else 0.0,
        }

    def _add_gaps(self, *, wait: bool) -> None:
        """Add up the gaps whose end the device has reached; all of them after a ``wait``."""
        while self._gaps:
            start, end = self._gaps[0]
            if wait:
                end.synchronize()
            elif not end.query():  # type: ignore[no-untyped-call]  # torch
                break
            self._gaps.popleft()
            self._waited += start.elapsed_time(end) / 1000


def _record_event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch
    event.record()
    return event


def describe_wait(loading: float, computing: float) -> str:
    """Say whether data loading keeps up with the network, from the seconds of both.

    >>> describe_wait(3.0, 22.0)
    'the network waited for data 12 % of the time; more data.workers may help'
    >>> describe_wait(0.1, 25.0)
    'the network did not wait for data'
    """
    share = loading / (loading + computing) if loading else 0.0
    if share < _WORTH_ADVICE:
        return "the network did not wait for data"
    return (
        f"the network waited for data {100 * share:.0f} % of the time; more data.workers may help"
    )
