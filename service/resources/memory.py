"""How much memory this process may use, and how many pictures can be decoded in it at once.

A picture of a few hundred kilobytes can have as many pixels as are accepted, and then takes
hundreds of megabytes while it is decoded. A container that runs out of memory is killed, with all
that it was about to answer; so no more pictures are decoded at once than fit at their largest.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from service.resources.cgroups import cgroup_directories, read_number

BYTES_PER_PIXEL = 21
"""Most that a picture takes while it is decoded.

Measured, in resident memory: 20.4 for a WebP with transparency and an EXIF rotation, 13 for such
a PNG, 12 for a progressive JPEG. Pillow takes 4 for each copy; libwebp keeps two more.
"""

REST_BYTES = 512 << 20
"""Left for everything else: the front process, fork servers with the codes of the gallery."""


def available_bytes(root: Path = Path("/")) -> int:
    """Return how much memory this process may use: the machine's, or its cgroups' limit.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    for directory in cgroup_directories("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = int(read_number(directory / name))
            if limit > 0:
                yield limit


def memory_bytes(process: int, kind: Literal["Pss", "Private_Dirty"]) -> int:
    """Return what a process takes; 0 where the kernel does not tell, or it has ended.

    Args:
        process: Its id.
        kind: ``Pss`` divides what it shares among those who share it; ``Private_Dirty`` is what no
            other has, and no file.
    """
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{kind}:"))


def pictures_that_fit(room_bytes: int, *, max_pixels: int, worker_bytes: int = 0) -> int:
    """Return how many pictures of the largest size can be decoded at once; at least 1.

    Args:
        room_bytes: Memory for them, and for those who decode them.
        max_pixels: Largest picture accepted, width × height.
        worker_bytes: What a process takes that decodes one of them. While a gallery is replaced
            there are twice as many.

    >>> pictures_that_fit(3 << 30, max_pixels=64_000_000, worker_bytes=100 << 20)
    2
    """
    return max(1, room_bytes // (BYTES_PER_PIXEL * max_pixels + 2 * worker_bytes))
