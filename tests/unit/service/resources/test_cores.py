"""How many cores there are, told by the files that the kernel shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.resources.cores import Cores, available_cores, divide_cores

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


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (16, 16), (24, 16), (64, 16)])
def test_workers_never_need_more_cores_than_there_are(cores: int, workers: int) -> None:
    """There is a worker for each core, until these are many."""
    assert divide_cores(cores) == Cores(cores, workers)
