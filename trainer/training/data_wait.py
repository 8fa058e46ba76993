"""Which of the two waits: the network for pictures, or the loader for the network."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

from trainer.distributed import processes

T = TypeVar("T")

_MUCH = 0.05
"""Part of the time from which on waiting is worth a remedy."""


class Waiting:
    """Measures how long the network waits for batches.

    On an NVIDIA device work is queued and the program runs ahead of it: there the device itself
    tells how long it had nothing to do between two steps.

    Args:
        device: Where the network computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._waited = 0.0
        self._passed = 0.0
        self._cuda = device.type == "cuda"
        self._ended: torch.cuda.Event | None = None
        self._gaps: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the batches; what is done between two of them counts as the network's work."""
        iterator = iter(batches)
        while True:
            asked = time.monotonic()
            batch = next(iterator, None)
            got = time.monotonic()
            if batch is None:
                break
            if self._ended is None:  # the first batch; on a CPU, every one
                self._waited += got - asked
            else:
                self._gaps.append((self._ended, _mark()))
                self._settle(all_of_them=False)
            yield batch
            if self._cuda:
                self._ended = _mark()
            self._passed += time.monotonic() - asked
        self._settle(all_of_them=True)

    def seconds(self) -> dict[str, float]:
        """Give both times for a report, from the process that waited longest."""
        waited, passed = max(processes.gather((self._waited, self._passed)))
        return {"seconds_loading": round(waited, 1), "seconds_computing": round(passed - waited, 1)}

    def _settle(self, *, all_of_them: bool) -> None:
        """Add up the gaps that the device has come to the end of."""
        while self._gaps:
            ended, began = self._gaps[0]
            if all_of_them:
                began.synchronize()
            elif not began.query():  # type: ignore[no-untyped-call]  # torch
                break
            self._gaps.popleft()
            self._waited += ended.elapsed_time(began) / 1000


def _mark() -> torch.cuda.Event:
    """Put a time stamp into the device's queue."""
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch
    event.record()
    return event


def in_words(loading: float, computing: float) -> str:
    """Say who waits for whom.

    Args:
        loading: Seconds in which the network waited for batches.
        computing: Seconds in which it computed.

    >>> in_words(3.0, 22.0)
    'the loader kept the network waiting 12 % of the time; more data.workers may help'
    >>> in_words(0.1, 25.0)
    'the loader kept up with the network'
    """
    part = loading / (loading + computing) if loading else 0.0
    if part < _MUCH:
        return "the loader kept up with the network"
    return (
        f"the loader kept the network waiting {100 * part:.0f} % of the time; "
        "more data.workers may help"
    )
