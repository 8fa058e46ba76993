"""How many cores this process may use, and how they are divided among batches.

``os.cpu_count`` counts the machine's. A container may be allowed fewer, by its CPU affinity or by
a quota of CPU time; threads beyond that only get in each other's way.
"""

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.resources.cgroups import cgroup_directories, read_number


@dataclass(frozen=True, slots=True)
class Cores:
    """How the cores are divided.

    They are divided in time rather than in space: the next core that is free does whatever comes
    next, and :class:`~service.inference.scheduler.Scheduler` never gives out more of them than
    there are. A fixed share would lie idle whenever its stage has nothing to do.

    Attributes:
        total: All of them, and the most pictures decoded at the same time.
        parallel_batches: Batches that pass the network and the search at the same time.
        cores_per_batch: Cores that one of these batches keeps busy.
    """

    total: int
    parallel_batches: int
    cores_per_batch: int


_MAX_PARALLEL_BATCHES = 4


def divide_cores(threads: int) -> Cores:
    """Divide ``threads`` cores; 0 stands for all that this process may use.

    Threads that share a batch wait for each other: two take a fifth more time of two cores than
    one batch on each. So there is a batch for every core, until these would be many; then each
    is answered sooner by several.
    """
    total = threads or available_cores()
    batches = min(total, _MAX_PARALLEL_BATCHES)
    return Cores(total, batches, cores_per_batch=total // batches)


NICENESS = 10
"""By how much the threads that compute are nicer than the event loop's.

The loop needs little time, but at once: it reads, refuses and answers. Among as many computing
threads as there are cores it would else get a small share, and requests would wait for it.
"""


def prioritize_event_loop() -> None:
    """Make every other thread of this process nicer than the calling one, the event loop's.

    Threads that they start later inherit it. Does nothing where there is no ``/proc``.
    """
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return
    own = threading.get_native_id()
    wanted = min(19, os.getpriority(os.PRIO_PROCESS, own) + NICENESS)
    for thread in (int(task.name) for task in tasks.iterdir()):
        with contextlib.suppress(OSError):  # it has just ended
            if thread != own and os.getpriority(os.PRIO_PROCESS, thread) < wanted:
                os.setpriority(os.PRIO_PROCESS, thread, wanted)


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
