"""What hostile clients do to a service: each attack once, for the tests and for the benchmark.

An attack is so many clients of one address, each of which opens a connection, does its worst on it
until the service ends it, and begins again. What came of each connection is counted: the status
of the answer, or :data:`CLOSED`. Needs nothing of Cairn.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import resource
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

CLOSED = 0
"""Stands for the status of a connection that was closed without an answer."""

STANDING = 1
"""Stands for that of a connection that was open until the attack ended."""

PICTURE_BYTES = 20 << 20
"""The largest picture that is accepted by default."""

_ADDRESS = "127.0.0.2"  # other clients come from 127.0.0.1
_BLOCK = 64 << 10
_HOST = b"\r\nHost: localhost\r\n"
_POST = b"POST /predict HTTP/1.1" + _HOST
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"


Sends = Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Attack:
    """One way to harm a service.

    Attributes:
        name: Of the attack.
        clients: Connections at a time.
        sends: What each connection sends.
        listens: Whether the clients read answers.
        again_seconds: How long a client waits before it begins again.
    """

    name: str
    clients: int
    sends: Sends
    listens: bool = True
    again_seconds: float = 0.05


def _endless(head: bytes, unit: bytes, *, pause: float = 0.01) -> Sends:
    """Send a beginning, and then the same for ever."""
    block = unit * max(1, _BLOCK // len(unit))

    async def sends() -> AsyncIterator[bytes]:
        yield head
        while True:
            yield block
            await asyncio.sleep(pause)

    return sends


def _once(*parts: bytes) -> Sends:
    """Send something, and then nothing more."""

    async def sends() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return sends


def _dripping(head: bytes, unit: bytes, pause: float) -> Sends:
    """Send a beginning, and then little by little."""

    async def sends() -> AsyncIterator[bytes]:
        yield head
        while True:
            await asyncio.sleep(pause)
            yield unit

    return sends


def _form_of_boundaries() -> Sends:
    """Send a file of lines that begin like the boundary, each of which is looked at."""
    part = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    head = _POST + b"Content-Type: multipart/form-data; boundary=B\r\n"
    body = part + b"\r\n--BX" * (1 << 20)
    return _once(head + b"Content-Length: %d\r\n\r\n" % (2 * len(body)), body)


def _json(content: bytes) -> Sends:
    """Send a large body of JSON."""
    head = _POST + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
    return _once(head, content)


def _stalled(sent: int) -> Sends:
    """Announce a picture of the largest size, send most of it, and stall."""

    async def sends() -> AsyncIterator[bytes]:
        yield _POST + b"Content-Length: %d\r\n\r\n" % PICTURE_BYTES
        for _ in range(sent // _BLOCK):
            yield bytes(_BLOCK)

    return sends


def _scan_bomb() -> Sends:
    """Send a small file that takes long to decode: 64 megapixels, in 100 scans."""

    async def sends() -> AsyncIterator[bytes]:
        data = scan_bomb()
        yield _POST + b"Content-Length: %d\r\n\r\n" % len(data) + data

    return sends


def _scattered_picture() -> Sends:
    """Send an AVIF that lies in the file byte by byte, in millions of places."""
    item = struct.pack(">HHH", 1, 0, 65_535) + b"\1" * 65_535
    places = bytes(4) + b"\1\0" + struct.pack(">H", 280) + 280 * item
    inner = struct.pack(">I", 8 + len(places)) + b"iloc" + places
    outer = struct.pack(">I", 12 + len(inner)) + b"meta" + bytes(4) + inner
    data = b"\0\0\0\x14ftypavif\0\0\0\0mif1" + outer
    return _once(_POST + b"Content-Length: %d\r\n\r\n" % len(data), data)


_BOMBS: dict[tuple[int, int], bytes] = {}


def scan_bomb(side: int = 8000, scans: int = 100) -> bytes:
    """Return a progressive JPEG of one gray, whose last scan comes again and again."""
    from PIL import Image

    if (side, scans) not in _BOMBS:
        buffer = io.BytesIO()
        Image.new("L", (side, side), 90).save(buffer, "JPEG", progressive=True)
        data = buffer.getvalue()
        last = data[data.rindex(b"\xff\xda") : -2]
        _BOMBS[side, scans] = data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]
    return _BOMBS[side, scans]


ATTACKS = {
    attack.name: attack
    for attack in (
        Attack("endless_header", 16, _endless(b"GET / HTTP/1.1\r\nX: ", b"a")),
        Attack("tiny_headers", 16, _endless(b"GET / HTTP/1.1\r\n", b"a:\r\n")),
        Attack("endless_url", 16, _endless(b"GET /", b"a")),
        Attack("dripped_header", 16, _dripping(b"GET / HTTP/1.1\r\nX: ", b"a" * 500, 0)),
        Attack("chunk_extension", 16, _endless(_CHUNKED + b"5;", b"a")),
        Attack("trailers", 16, _endless(_CHUNKED + b"0\r\n", b"X: a\r\n")),
        Attack("tiny_chunks", 16, _endless(_CHUNKED, b"1\r\na\r\n")),
        Attack("pipelined_requests", 16, _endless(b"", b"GET /healthz HTTP/1.1" + _HOST + b"\r\n")),
        Attack("silent_connections", 1500, _once(), again_seconds=2),
        Attack("slow_bodies", 200, _dripping(_POST + b"Content-Length: 400000\r\n\r\n", b"a", 1)),
        Attack("stalled_uploads", 30, _stalled(PICTURE_BYTES - _BLOCK), again_seconds=5),
        Attack(
            "unread_answers",
            64,
            _once((b"GET /openapi.json HTTP/1.1" + _HOST + b"\r\n") * 12),
            listens=False,
        ),
        Attack("form_of_boundaries", 8, _form_of_boundaries(), again_seconds=0.2),
        Attack("many_objects", 8, _json(b"{}," * (8 << 20)), again_seconds=0.2),
        Attack(
            "spaced_base64",
            8,
            _json(b'{"picture": "' + b"A " * (12 << 20) + b'"}'),
            again_seconds=0.2,
        ),
        Attack("scan_bomb", 8, _scan_bomb(), again_seconds=0.1),
        Attack("scattered_picture", 8, _scattered_picture(), again_seconds=0.2),
    )
}
"""All attacks, by name."""


async def _attack(attack: Attack, url: str, seconds: float, clients: int) -> Counter[int]:
    ends = time.monotonic() + seconds
    statuses = Counter[int]()

    async def client() -> None:
        while time.monotonic() < ends:
            with contextlib.suppress(OSError):
                statuses[await _connect(attack, url, ends)] += 1
            await asyncio.sleep(attack.again_seconds)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return statuses


async def _connect(attack: Attack, url: str, ends: float) -> int:
    """Open a connection, attack on it, and return what became of it."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        address.hostname, address.port, local_addr=(_ADDRESS, 0)
    )
    sending = asyncio.create_task(_send(attack.sends(), writer))
    try:
        async with asyncio.timeout(ends - time.monotonic()):
            if not attack.listens:
                await asyncio.Event().wait()
            head = await reader.read(12)
            return int(head[9:12]) if len(head) == 12 else CLOSED
    except TimeoutError:
        return STANDING
    except ConnectionError:
        return CLOSED
    finally:
        sending.cancel()
        writer.transport.abort()


async def _send(sends: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        async for data in sends:
            writer.write(data)
            await writer.drain()


@contextlib.contextmanager
def attacking(
    name: str, url: str, seconds: float, clients: int | None = None, *, nice: int = 0
) -> Iterator[Counter[int]]:
    """Attack during the block, from a process of its own.

    Args:
        name: Of the attack.
        url: Of the service.
        seconds: How long.
        clients: Connections at a time; by default those of the attack.
        nice: How far to leave the cores to others, as attackers elsewhere do; 19 is most.

    Yields:
        What became of the connections; empty until the block has ended.
    """
    words = [
        "nice",
        "-n",
        str(nice),
        sys.executable,
        __file__,
        name,
        url,
        str(seconds),
        str(clients or ATTACKS[name].clients),
    ]
    counted = Counter[int]()
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        yield counted
        told, _ = process.communicate()
    counted.update({int(status): count for status, count in json.loads(told).items()})


def main() -> None:
    """Attack as the arguments say; print what became of the connections."""
    name, url, seconds, clients = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(json.dumps(asyncio.run(_attack(ATTACKS[name], url, float(seconds), int(clients)))))


if __name__ == "__main__":
    main()
