"""Load on a service, and what came back: wrk in closed loop, and requests at given times.

In closed loop each of so many clients asks again as soon as it is answered: that measures how
much a service can do. In an open loop requests are sent at times that do not depend on the
answers, as from people who know nothing of each other: that measures how long an answer takes,
counted from when the request was to be sent, so that a service that holds clients up gains
nothing by it. Both tell what CPU time they took themselves.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

NO_ANSWER = 0
"""Stands for the status of a request that was not answered."""

JPEG = "image/jpeg"

_WAIT_SECONDS = 60
_LUA = """
local requests, thread_bodies = {}, {}
function init(arguments)
  local headers = {["Content-Type"] = table.remove(arguments, 1)}
  for number, path in ipairs(arguments) do
    local file = assert(io.open(path, "rb"))
    requests[number] = wrk.format("POST", "/predict", headers, file:read("*a"))
    file:close()
  end
end
local turn = 0
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\\n{"answers": %d, "microseconds": %d, "p50": %d, "p99": %d, "failed": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


class NoWrkError(Exception):
    """The load generator wrk is not installed."""

    def __init__(self) -> None:
        super().__init__("wrk is not on the PATH; on Debian: apt-get install wrk")


@dataclass(frozen=True, slots=True)
class Load:
    """What clients got who ask without a pause.

    Attributes:
        rate: Answers in a second.
        seconds: For how long.
        p50_ms: Median time to an answer.
        p99_ms: 99 of 100 answers took no longer.
        failed: Requests that were refused or not answered.
        cpu_seconds: CPU time of the load generator.
    """

    rate: float
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu_seconds: float


def find_wrk() -> str:
    """Return the path of wrk.

    Raises:
        NoWrkError: It is not installed.
    """
    found = shutil.which("wrk")
    if found is None:
        raise NoWrkError
    return found


def press(
    url: str, bodies: Sequence[Path], *, clients: int, seconds: float, kind: str = JPEG
) -> Load:
    """Let wrk's clients post the bodies to ``/predict``, each again as soon as it is answered.

    Args:
        url: Of the service.
        bodies: Files to send, in turn.
        clients: How many clients there are.
        seconds: For how long; wrk knows whole ones.
        kind: Content type of the bodies.

    Raises:
        NoWrkError: wrk is not installed.
    """
    wrk, before = find_wrk(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_LUA)
        script.flush()
        command = [wrk, "--threads", "1", "--connections", str(clients)]
        command += ["--duration", f"{math.ceil(seconds)}s", "--timeout", f"{_WAIT_SECONDS}s"]
        command += ["--script", script.name, url, "--", kind, *map(str, bodies)]
        finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = json.loads(finished.stdout.splitlines()[-1])
    took = told["microseconds"] / 1e6
    return Load(
        rate=told["answers"] / took,
        seconds=took,
        p50_ms=told["p50"] / 1e3,
        p99_ms=told["p99"] / 1e3,
        failed=told["failed"],
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one request.

    Attributes:
        status: Of HTTP; :data:`NO_ANSWER` where the connection broke or nothing came.
        seconds: From when it was to be sent until the answer was whole.
        late_seconds: The part of it in which the load generator was not ready to send.
        may_come_again: Whether the answer told when to.
    """

    status: int
    seconds: float
    late_seconds: float
    may_come_again: bool


def requests(url: str, bodies: Iterable[Path], kind: str = JPEG) -> list[bytes]:
    """Word requests that post the bodies to ``/predict``."""
    heads = "POST /predict HTTP/1.1\r\nHost: {}\r\nContent-Type: {}\r\nContent-Length: {}"
    host = urlsplit(url).netloc
    return [
        heads.format(host, kind, len(data)).encode() + b"\r\n\r\n" + data
        for data in (path.read_bytes() for path in bodies)
    ]


def evenly(rate: float, seconds: float) -> NDArray[np.float64]:
    """Return times of requests that come at equal distances, in seconds from the first."""
    return np.arange(round(rate * seconds)) / rate


def by_chance(rate: float, seconds: float) -> NDArray[np.float64]:
    """Return times of requests that know nothing of each other: a Poisson process."""
    gaps = np.random.default_rng(0).exponential(1 / rate, round(rate * seconds))
    return np.cumsum(gaps) - gaps[0]


def send_at(url: str, asked: Sequence[bytes], times: NDArray[np.float64]) -> list[Reply]:
    """Send requests at ``times``, whatever comes back, and wait for all the answers.

    Args:
        url: Of the service.
        asked: Requests, as :func:`requests` gives them; sent in turn.
        times: ``(n,)`` seconds from now, ascending.

    Returns:
        ``n`` replies, in the order of ``times``.
    """
    gc.collect()
    gc.disable()  # it would stop the sender for longer than an answer takes
    try:
        return asyncio.run(_send_at(_Links(url), asked, times))
    finally:
        gc.enable()


def one_by_one(url: str, asked: Sequence[bytes], count: int) -> list[Reply]:
    """Send ``count`` requests over one connection, each when the one before is answered."""
    return asyncio.run(_in_turn(url, asked, clients=1, count=count))


def in_turn(url: str, asked: Sequence[bytes], *, clients: int, count: int) -> list[Reply]:
    """Let clients send ``count`` requests altogether, each again as soon as it is answered."""
    return asyncio.run(_in_turn(url, asked, clients=clients, count=count))


async def _in_turn(url: str, asked: Sequence[bytes], *, clients: int, count: int) -> list[Reply]:
    links, replies, numbers = _Links(url), [], iter(range(count))

    async def client() -> None:
        for number in numbers:
            now = time.perf_counter()
            replies.append(await links.ask(asked[number % len(asked)], now))

    await asyncio.gather(*(client() for _ in range(clients)))
    links.close()
    return replies


async def _send_at(
    links: _Links, asked: Sequence[bytes], times: NDArray[np.float64]
) -> list[Reply]:
    begun, tasks = time.perf_counter(), []
    for number, due in enumerate((begun + times).tolist()):
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        elif number % 16 == 0:
            await asyncio.sleep(0)  # late: let the answers in
        tasks.append(asyncio.create_task(links.ask(asked[number % len(asked)], due)))
    replies = await asyncio.gather(*tasks)
    links.close()
    return replies


class _Links:
    """Connections to one service, kept for the next request; more are made when all are in use."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._idle: list[socket.socket] = []

    async def ask(self, request: bytes, due: float) -> Reply:
        """Send a request that was to be sent at ``due``, and wait for the answer."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                head = await self._exchange(request)
        except (OSError, TimeoutError, ValueError):
            head = b""
        return Reply(
            status=int(head[9:12] or NO_ANSWER),
            seconds=time.perf_counter() - due,
            late_seconds=started - due,
            may_come_again=b"\r\nretry-after:" in head.lower(),
        )

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    async def _exchange(self, request: bytes) -> bytes:
        """Return the head of the answer. The service may answer before it has all of a request."""
        loop = asyncio.get_running_loop()
        link = self._unused() or await self._connect()
        sending = loop.create_task(loop.sock_sendall(link, request))
        try:
            head = await _receive(link)
            whole = sending.done() and not sending.exception()
        except BaseException:
            link.close()
            raise
        finally:
            sending.cancel()
        if whole and b"\r\nconnection: close" not in head.lower():
            self._idle.append(link)
        else:
            link.close()
        return head

    def _unused(self) -> socket.socket | None:
        """Return a connection to use again; the service closes those long unused."""
        while self._idle:
            link = self._idle.pop()
            try:
                link.recv(1, socket.MSG_PEEK)  # what can be read is its end
            except BlockingIOError:
                return link
            except OSError:
                pass
            link.close()
        return None

    async def _connect(self) -> socket.socket:
        link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        link.setblocking(False)  # noqa: FBT003 (the library's signature)
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(link, self._address)
        except BaseException:
            link.close()
            raise
        return link


async def _receive(link: socket.socket) -> bytes:
    """Read one answer, and return its head.

    Raises:
        ValueError: It is not an answer of HTTP with a stated length.
        ConnectionError: It is not whole.
    """
    loop, data = asyncio.get_running_loop(), b""
    while b"\r\n\r\n" not in data:
        data += await _some(loop, link)
    head, _, body = data.partition(b"\r\n\r\n")
    length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    missing = int(length) - len(body)
    while missing > 0:
        missing -= len(await _some(loop, link))
    return head


async def _some(loop: asyncio.AbstractEventLoop, link: socket.socket) -> bytes:
    data = await loop.sock_recv(link, 1 << 16)
    if not data:
        raise ConnectionError("the service closed the connection")
    return data


def allow_many_links() -> None:
    """Let this process, and those it starts, have as many connections as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def percentile_ms(replies: Iterable[Reply], share: float) -> float:
    """Return the time within which a share of the requests were answered; infinite for none."""
    seconds = [reply.seconds for reply in replies]
    return round(float(np.quantile(seconds, share)) * 1e3, 2) if seconds else math.inf


def tell(words: str) -> None:
    """Say to whoever watches what is being done."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {words}\n")
