"""Which stage of the work is the bottleneck: how long each is busy, of the time that passes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping

READ, DECODE, NETWORK, WRITE = "reading", "decoding", "network", "writing"


class Stages:
    """The busy time of each stage. Safe to tell from many threads.

    Args:
        readers: Threads that read and decode; the other stages have one each.
    """

    def __init__(self, readers: int) -> None:
        self._readers = readers
        self._begun = time.monotonic()
        self._seconds = dict.fromkeys((READ, DECODE, NETWORK, WRITE), 0.0)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Count the time of the ``with`` block as work of ``stage``."""
        begun = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - begun
            with self._lock:
                self._seconds[stage] += seconds

    def shares(self) -> Mapping[str, float]:
        """Return the share of its time that each stage was busy, in [0, 1].

        Readers divide their time between reading and decoding, so these two add up.
        """
        passed = max(time.monotonic() - self._begun, 1e-9)
        with self._lock:
            return {
                stage: seconds / passed / (self._readers if stage in (READ, DECODE) else 1)
                for stage, seconds in self._seconds.items()
            }

    def bottleneck(self) -> tuple[str, float]:
        """Return the stage that the others wait for, and how busy it is.

        It is the one whose threads are busiest; of the readers, what they do most.
        """
        shares = self.shares()
        readers = shares[READ] + shares[DECODE]
        first = max((READ, DECODE), key=lambda stage: shares[stage])
        busy = {first: readers, NETWORK: shares[NETWORK], WRITE: shares[WRITE]}
        stage = max(busy, key=lambda name: busy[name])
        return stage, busy[stage]

    def __str__(self) -> str:
        stage, share = self.bottleneck()
        return f"bottleneck {stage} {share:.0%}"
