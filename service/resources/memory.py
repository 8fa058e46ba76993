"""How much memory this process may use, and how many pictures can be decoded in it at once.

A picture of a few hundred kilobytes can have as many pixels as are accepted, and then takes
hundreds of megabytes while it is decoded. A container that runs out of memory is killed, with all
that it was about to answer; so no more pictures are decoded at once than fit at their largest.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from service.resources.cgroups import cgroup_directories, read_number

BYTES_PER_PIXEL = 21
"""Most that a picture takes while it is decoded.

Measured, in resident memory: 20.4 for a WebP with transparency and an EXIF rotation, 13 for such
a PNG, 12 for a progressive JPEG. Pillow takes 4 for each copy; libwebp keeps two more.
"""

REST_BYTES = 512 << 20
"""Left for everything else: the interpreter, the network with its largest batch, the search."""


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


def pictures_that_fit(memory_bytes: int, *, max_pixels: int, held_bytes: int) -> int:
    """Return how many pictures of the largest size can be decoded at once; at least 1.

    Args:
        memory_bytes: What this process may use.
        max_pixels: Largest picture accepted, width × height.
        held_bytes: Most that uploaded files may take beside it.

    >>> pictures_that_fit(4 << 30, max_pixels=64_000_000, held_bytes=512 << 20)
    2
    """
    room = memory_bytes - held_bytes - REST_BYTES
    return max(1, room // (BYTES_PER_PIXEL * max_pixels))
