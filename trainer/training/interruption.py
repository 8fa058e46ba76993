"""SIGTERM and SIGINT: a run that is told to end writes a checkpoint first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from embedder.errors import RunInterruptedError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Notices that the run is told to end, as by a scheduler that needs the machine or by Ctrl-C.

    Attributes:
        requested: Whether a signal has come while it was deferred.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Let the signals raise an error; leave them alone outside of the main thread.

        Raises:
            RunInterruptedError: One has come.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the first signal only be noted; a second one raises the error at once."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Let signals raise the error for a while, although they are deferred."""
        self._deferred = False
        try:
            yield
        finally:
            self._deferred = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested or not self._deferred:
            raise RunInterruptedError
        self.requested = True
