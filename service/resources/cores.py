"""How many cores this process may use, and how they are divided among workers.

``os.cpu_count`` counts the machine's. A container may be allowed fewer, by its CPU affinity or by
a quota of CPU time; threads beyond that only get in each other's way.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.resources.cgroups import cgroup_directories, read_number


@dataclass(frozen=True, slots=True)
class Cores:
    """How the cores are divided.

    Attributes:
        total: All of them.
        workers: Most processes that work on a batch each, from decoding to search.
    """

    total: int
    workers: int


_MAX_WORKERS = 16


def divide_cores(threads: int) -> Cores:
    """Divide ``threads`` cores; 0 stands for all that this process may use.

    Threads that share a batch wait for each other: two take a fifth more time of two cores than
    one batch on each. So there is a worker for every core, until these would be many, since each
    has a network of its own in memory.
    """
    total = threads or available_cores()
    return Cores(total, min(total, _MAX_WORKERS))


def available_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may keep busy, at least 1.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas that hold for this process, in cores: of its cgroup and those above it."""
    for directory in cgroup_directories("cpu", root):
        v1 = (directory / "cpu.cfs_quota_us", directory / "cpu.cfs_period_us")
        for quota_file, period_file in ((directory / "cpu.max",) * 2, v1):
            quota, period = read_number(quota_file), read_number(period_file, -1)
            if quota > 0 and period > 0:
                yield quota / period
