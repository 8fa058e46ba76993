"""What a command says on stdout, for a person or the next program of a pipe to read."""

from __future__ import annotations

import os
import sys

UNREAD = 141
"""Exit code of a command whose output nobody reads: that of Unix tools, 128 and SIGPIPE's 13."""


def say(line: str) -> int:
    """Write a line to stdout at once.

    Args:
        line: Without its end.

    Returns:
        0; :data:`UNREAD` where the reader has left, as ``head`` does, and whatever else is
        written will be lost in silence.

    Raises:
        OSError: It cannot be written for another reason, like a full disk.
    """
    try:
        print(line, flush=True)  # noqa: T201 (this is what the command prints)
    except OSError as error:
        _discard_the_rest()
        if not isinstance(error, BrokenPipeError):
            raise
        return UNREAD
    return 0


def _discard_the_rest() -> None:
    """Keep what is still buffered from failing again, and loudly, when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
