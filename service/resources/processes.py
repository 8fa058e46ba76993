"""What the processes of a service take together: one, and all that it has started."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from service.resources.memory import memory_bytes

_TICKS = os.sysconf("SC_CLK_TCK")
_TIMES = slice(11, 15)  # behind the name: user and system time, and those of ended children


class Usage(NamedTuple):
    """What some processes take.

    Attributes:
        cpu_seconds: Time on all cores, that of ended processes included.
        memory_bytes: Resident memory; what several share counts once.
    """

    cpu_seconds: float
    memory_bytes: int


def usage(process: int) -> Usage:
    """Measure a process and all that it has started. Takes a few milliseconds for each."""
    found = list(_tree(process))
    return Usage(sum(time for _, time in found), sum(memory_bytes(one, "Pss") for one, _ in found))


def _tree(process: int) -> Iterator[tuple[int, float]]:
    """Yield a process and its descendants, each with its time; not those that have ended."""
    directory = Path(f"/proc/{process}")
    with suppress(OSError):
        fields = (directory / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        yield process, sum(map(int, fields[_TIMES])) / _TICKS
        for child in (directory / f"task/{process}/children").read_text(encoding="utf-8").split():
            yield from _tree(int(child))
