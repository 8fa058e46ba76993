"""Arrays that a worker process hands over without a copy, whatever the size of ``/dev/shm``.

torch passes tensors between processes in files of ``/dev/shm``. In containers that often has 64 MB;
a batch that does not fit is lost without an error in the training process, which waits for it for
ever. A ``memfd`` is memory of the same kind that belongs to no file system: only the memory of the
machine, or of the container, limits it.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
from numpy.typing import NDArray


class SharedArray:
    """Bytes in anonymous memory; whoever unpickles it in another process maps the same memory.

    Args:
        file: Descriptor of the memory, which belongs to the object from now on.
        shape: Of the array.

    Raises:
        MemoryError: There is not enough of it.

    Attributes:
        array: ``shape``, uint8.
    """

    def __init__(self, file: int, shape: tuple[int, ...]) -> None:
        self._file = file
        size = math.prod(shape)
        try:
            memory = mmap.mmap(file, max(1, size))  # stays mapped as long as the array lives
        except OSError as error:
            raise MemoryError(f"{size} bytes of pictures cannot be held") from error
        self.array: NDArray[np.uint8] = np.frombuffer(memory, np.uint8, size).reshape(shape)

    @classmethod
    def allocate(cls, shape: tuple[int, ...]) -> SharedArray:
        """Make an array of zeros."""
        file = os.memfd_create("cairn-batch")
        os.truncate(file, max(1, math.prod(shape)))  # nothing of length zero can be mapped
        return cls(file, shape)

    def __del__(self) -> None:
        os.close(self._file)

    def __reduce__(self) -> tuple[Callable[..., SharedArray], tuple[object, ...]]:
        return _receive, (DupFd(self._file), self.array.shape)


def _receive(handle: Any, shape: tuple[int, ...]) -> SharedArray:  # noqa: ANN401 (multiprocessing has no type for it)
    return SharedArray(handle.detach(), shape)
