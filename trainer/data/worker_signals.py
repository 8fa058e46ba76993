"""The signals of processes that load pictures."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_GRACE_SECONDS = 30
_SIGNALS = {signal.SIGTERM, signal.SIGINT}


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Hold signals back while workers are started, until :func:`outlive_the_run` in each."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def outlive_the_run(worker: int) -> None:
    """Let a worker go on for a while when all processes of a run are told to end.

    Ctrl-C and schedulers tell all of them at once, and the training process may be waiting for
    the batch of its last step. Whoever ends a worker by SIGTERM alone has it end later, quietly.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE_SECONDS))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
