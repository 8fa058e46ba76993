"""Messages between the processes of one service, over the socket pairs that they inherit.

A message is a pickled value behind its length. Both ends are the same program, and nobody else
can write to a socket pair, so pickle is safe here; files of others never pass this way.
"""

import asyncio
import pickle
import socket
import struct
import traceback
from typing import Any

_LENGTH = struct.Struct("!Q")
_PIECE = 1 << 20
BUFFER_BYTES = 4 << 20
"""Of each direction of a socket: most batches fit, so that neither end waits for the other."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Make two connected sockets with large buffers."""
    pair = socket.socketpair()
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return pair


def pack(message: object) -> bytes:
    """Return the bytes of a message."""
    data = pickle.dumps(message, protocol=5)
    return _LENGTH.pack(len(data)) + data


def send(end: socket.socket, message: object) -> None:
    """Send a message, waiting until all of it is in the socket."""
    end.sendall(pack(message))


def receive(end: socket.socket) -> Any:  # noqa: ANN401 - any message
    """Wait for a message.

    Raises:
        EOFError: The other process has closed its end, or has died.
    """
    length = _LENGTH.unpack(_receive_bytes(end, _LENGTH.size))[0]
    return pickle.loads(_receive_bytes(end, length))  # noqa: S301 - see above


def _receive_bytes(end: socket.socket, count: int) -> bytearray:
    data = bytearray(count)
    rest = memoryview(data)
    while rest:
        received = end.recv_into(rest, min(len(rest), _PIECE))
        if not received:
            raise EOFError
        rest = rest[received:]
    return data


async def receive_async(reader: asyncio.StreamReader) -> Any:  # noqa: ANN401 - any message
    """Wait for a message on the event loop.

    Raises:
        EOFError: As for :func:`receive`.
    """
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 - see above


def portable(error: Exception) -> Exception:
    """Return an error that can be sent; its traceback becomes a note, for the log."""
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # whatever its class makes of that; the text is what counts
        copy = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            copy.add_note(note)
    if error.__traceback__ is not None:
        copy.add_note("".join(traceback.format_exception(error)))
    return copy
