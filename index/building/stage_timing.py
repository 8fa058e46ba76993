"""Which stage of the pipeline is the bottleneck: the share of elapsed time that each is busy."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

READ, DECODE, NETWORK, WRITE = "reading", "decoding", "network", "writing"


class StageTimes:
    """The busy time of each stage. Thread-safe.

    Args:
        readers: Threads that read and decode; the other stages have one each.
    """

    def __init__(self, readers: int) -> None:
        self._threads = {READ: readers, DECODE: readers, NETWORK: 1, WRITE: 1}
        self._started = time.monotonic()
        self._seconds = dict.fromkeys(self._threads, 0.0)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Count the time of the ``with`` block as work of ``stage``."""
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            with self._lock:
                self._seconds[stage] += seconds

    def shares(self) -> dict[str, float]:
        """Return the share of its threads' time that each stage was busy, in [0, 1].

        Reading and decoding share their threads, so their two shares add up.
        """
        elapsed = max(time.monotonic() - self._started, 1e-9)
        with self._lock:
            return {s: t / elapsed / self._threads[s] for s, t in self._seconds.items()}

    def __str__(self) -> str:
        """Name the bottleneck: the busiest threads, and for readers what they do most."""
        shares = self.shares()
        reading = max((READ, DECODE), key=lambda stage: shares[stage])
        shares[reading] = shares[READ] + shares[DECODE]
        stage = max(shares, key=lambda stage: shares[stage])
        return f"bottleneck {stage} {shares[stage]:.0%}"
