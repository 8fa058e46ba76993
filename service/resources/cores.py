"""How many cores there are for this process, and how one number divides them.

``os.cpu_count`` counts the machine's. A container may be allowed fewer, by the set of cores it is
bound to or by a quota of time on them; threads beyond that only get in each other's way.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.resources.cgroups import control_groups, number


@dataclass(frozen=True, slots=True)
class Cores:
    """How the cores are divided.

    They are divided in time rather than in space: whatever is to be done next is done by the next
    core that is free, and :class:`~service.inference.batcher.Batcher` never gives out more of them
    than there are. A fixed share would lie idle whenever its stage has nothing to do.

    Attributes:
        total: All of them; so many pictures can be decoded at the same time.
        lanes: Batches that pass the network and the search at the same time.
        each: Cores that one of these batches keeps busy.
    """

    total: int
    lanes: int
    each: int


_MOST_LANES = 4


def divide_cores(threads: int) -> Cores:
    """Divide ``threads`` cores; 0 stands for all that this process may use.

    Threads that share a batch wait for each other: two take a fifth more time of two cores than
    one batch on each. So there is a batch for every core, until these would be many; then each
    is answered sooner by several.
    """
    total = threads or available_cores()
    lanes = min(total, _MOST_LANES)
    return Cores(total, lanes, each=total // lanes)


AFTER_THE_LOOP = 10
"""By how much the threads that compute are nicer than the event loop's: as kind as can matter.

The loop needs little time, but at once: it reads, refuses and answers. Among as many computing
threads as there are cores it would else get a small share, and requests would wait for it.
"""


def let_loop_go_first() -> None:
    """Make every other thread of this process nicer than the calling one, the event loop's.

    Those that they start later are as nice. Elsewhere than on Linux, nothing is done.
    """
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return
    own = threading.get_native_id()
    wanted = min(19, os.getpriority(os.PRIO_PROCESS, own) + AFTER_THE_LOOP)
    for thread in (int(task.name) for task in tasks.iterdir()):
        with contextlib.suppress(OSError):  # it has just ended
            if thread != own and os.getpriority(os.PRIO_PROCESS, thread) < wanted:
                os.setpriority(os.PRIO_PROCESS, thread, wanted)


def available_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may keep busy, at least 1.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    bound = len(os.sched_getaffinity(0))
    return max(1, min([bound, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas that hold for this process, in cores: of its control group and above."""
    for directory in control_groups("cpu", root):
        for quota_file, period_file in (
            ("cpu.max", "cpu.max"),
            ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
        ):
            quota = number(directory / quota_file)
            period = number(directory / period_file, -1)
            if quota > 0 and period > 0:
                yield quota / period
