"""How many cores there are, told by the files that the kernel shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.resources.cores import Cores, available_cores, divide_cores
from tests.conftest import ROOT

pytestmark = pytest.mark.serial

BOUND = len(os.sched_getaffinity(0))


def kernel(root: Path, files: dict[str, str]) -> Path:
    """Write what the kernel would show."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, BOUND),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, BOUND),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "90000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            BOUND,
        ),
    ],
    ids=["nothing", "v2 above", "half a core", "v2 unlimited", "v1", "v1 unlimited"],
)
def test_a_quota_counts(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    """Of the control group of this process and of those above it, in both versions."""
    assert available_cores(kernel(tmp_path, files)) == cores


def test_a_quota_of_several_cores_does_not_add_any(tmp_path: Path) -> None:
    """The set of cores that the process is bound to holds all the same."""
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"}
    assert available_cores(kernel(tmp_path, files)) == BOUND


def test_a_chosen_number_is_kept() -> None:
    """And none chosen means all there are."""
    assert divide_cores(3).total == 3
    assert divide_cores(0).total == available_cores()


@pytest.mark.parametrize(
    ("cores", "batches", "per_batch"), [(1, 1, 1), (2, 2, 1), (4, 4, 1), (6, 4, 1), (16, 4, 4)]
)
def test_batches_never_need_more_cores_than_there_are(
    cores: int, batches: int, per_batch: int
) -> None:
    """There is a batch for each core, until these are many."""
    assert divide_cores(cores) == Cores(cores, batches, cores_per_batch=per_batch)


@pytest.mark.skipif(sys.platform != "linux", reason="there a thread has no niceness of its own")
def test_threads_that_compute_give_way_to_the_loop() -> None:
    """Those that there are and those that they start; the calling one stays as it is."""
    program = (
        "import os, threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from service.resources.cores import prioritize_event_loop\n"
        "def niceness():\n"
        "    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())\n"
        "with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as later:\n"
        "    before = pool.submit(niceness).result()\n"
        "    prioritize_event_loop()\n"
        "    prioritize_event_loop()\n"
        "    started = pool.submit(later.submit, niceness).result()\n"
        "    print(before, niceness(), pool.submit(niceness).result(), started.result())\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    before, own, there, later = map(int, done.stdout.split())
    assert before == own
    assert there == later == min(19, own + 10)
