"""Messages between the processes of one service, over the socket pairs that they inherit.

A message is a pickled value, and behind it the files that are in it. Both ends are the same
program, and nobody else can write to a socket pair: so pickle is safe here. What is in a file of
somebody is never unpickled.
"""

import asyncio
import io
import pickle
import socket
import struct
import traceback
from collections.abc import Sequence
from typing import Any

_HEAD = struct.Struct("!QI")  # length of the pickle, number of files behind it
_LENGTH = struct.Struct("!Q")
_FILE_BYTES = 4 << 10
BUFFER_BYTES = 4 << 20
"""Of each direction of a socket, as far as the system allows; most pictures fit."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Make two connected sockets with large buffers."""
    pair = socket.socketpair()
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return pair


class _Pickler(pickle.Pickler):
    """Leaves files out of the pickle, where each would be copied."""

    def __init__(self, target: io.BytesIO, files: list[bytes]) -> None:
        super().__init__(target, protocol=5)
        self._files = files

    def persistent_id(self, value: object) -> int | None:
        """Return the place of a file among those left out; None for all else."""
        if type(value) is not bytes or len(value) < _FILE_BYTES:
            return None
        self._files.append(value)
        return len(self._files) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, files: Sequence[bytes]) -> None:
        super().__init__(io.BytesIO(data))
        self._files = files

    def persistent_load(self, place: int) -> bytes:
        """Return a file that was left out."""
        return self._files[place]


def pack(message: object) -> list[bytes]:
    """Return the bytes of a message, in pieces to be sent one after the other."""
    target, files = io.BytesIO(), list[bytes]()
    _Pickler(target, files).dump(message)
    data = target.getvalue()
    head = _HEAD.pack(len(data), len(files))
    return [head + b"".join(_LENGTH.pack(len(file)) for file in files) + data, *files]


def send(end: socket.socket, message: object) -> None:
    """Send a message, waiting until all of it is in the socket."""
    for piece in pack(message):
        end.sendall(piece)


def receive(end: socket.socket) -> Any:  # noqa: ANN401 - any message
    """Wait for a message.

    Raises:
        EOFError: The other process has closed its end, or has died.
    """
    length, count = _HEAD.unpack(_receive_bytes(end, _HEAD.size))
    lengths = [_LENGTH.unpack(_receive_bytes(end, _LENGTH.size))[0] for _ in range(count)]
    data = _receive_bytes(end, length)
    return _Unpickler(data, [_receive_bytes(end, one) for one in lengths]).load()


def _receive_bytes(end: socket.socket, count: int) -> bytes:
    """Receive so many bytes; usually by one call, so that they are not copied again."""
    data = end.recv(count, socket.MSG_WAITALL) if count else b""
    while len(data) < count:
        more = end.recv(count - len(data), socket.MSG_WAITALL)
        if not more:
            raise EOFError
        data += more
    return data


async def receive_async(reader: asyncio.StreamReader) -> Any:  # noqa: ANN401 - any message
    """Wait for a message on the event loop.

    Raises:
        EOFError: As for :func:`receive`.
    """
    length, count = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    lengths = [_LENGTH.unpack(await reader.readexactly(_LENGTH.size))[0] for _ in range(count)]
    data = await reader.readexactly(length)
    return _Unpickler(data, [await reader.readexactly(one) for one in lengths]).load()


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
