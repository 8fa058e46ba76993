"""Limits that the kernel sets on this process's control groups, in cgroup versions 1 and 2."""

from collections.abc import Iterator
from pathlib import Path


def cgroup_directories(controller: str, root: Path) -> Iterator[Path]:
    """Yield the directories of the groups that limit this process: its own, and those above it.

    Args:
        controller: What is limited: ``cpu`` or ``memory``.
        root: Where ``proc`` and ``sys`` are mounted.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        inner = Path(path.lstrip("/"))
        yield from (mount / above for above in (inner, *inner.parents))


def read_number(path: Path, field: int = 0) -> float:
    """Return one number of a file; 0 where it is absent or says ``max``."""
    try:
        return float(path.read_text(encoding="utf-8").split()[field])
    except (OSError, ValueError, IndexError):
        return 0.0
