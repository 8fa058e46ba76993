"""Two hints to the system about a gallery's memory. What they cannot do is only slower without.

FAISS maps the file of a gallery and says that it will be read here and there. So the system
brings what every search looks at page by page: 100 MB took 1.8 s of 2.3 s to open a gallery after
a start of the machine, and 0.2 s when it was asked for at once.

The codes of a first look are copied out of the file. Each query passes all of them, and a fifth
of its time went into finding where each page of 4 KiB lies; there are few pages of 2 MiB.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 20
_HUGE_PAGE = 2 << 20
_COLLAPSE = 25  # MADV_COLLAPSE of Linux 6.1: now, not when the system finds the time


def read_ahead(path: Path, size: int) -> Iterator[int]:
    """Read the first bytes of a file, so that the system has them when they are looked at.

    Merely to advise it (``posix_fadvise``) brings no more than it reads ahead anyway.

    Args:
        path: The file.
        size: How many bytes.

    Yields:
        How many were read, block after block.

    Raises:
        OSError: The file cannot be read.
    """
    block = memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(block[:size]):
            size -= read
            yield read


def use_huge_pages(memory: NDArray[np.uint8]) -> bool:
    """Move what an array holds to pages of 2 MiB, whole ones at least; its address stays.

    Args:
        memory: Contiguous, and not mapped from a file.

    Returns:
        Whether it was done: an old system cannot, and another may have none to give.
    """
    first = -(-memory.ctypes.data // _HUGE_PAGE) * _HUGE_PAGE
    last = (memory.ctypes.data + memory.nbytes) // _HUGE_PAGE * _HUGE_PAGE
    advise: Any = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is None or first >= last:
        return False
    return bool(advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _COLLAPSE) == 0)
