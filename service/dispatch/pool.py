"""The processes of one published pair, as the front process sees them.

A pool has a fork server and its workers. A worker that dies is replaced; what it worked on is
reported as :class:`WorkerDiedError`.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Self

from embedder.artifacts.files import check_files
from embedder.errors import CairnError
from service.contract.schemas import Ready
from service.inference.errors import ForkServerDiedError, WorkerDiedError
from service.inference.messages import pack, receive, receive_async, send, socket_pair
from service.inference.processes import FORK, IN_MEMORY, Opened, Opening, Started, Timings
from service.inference.tasks import Task
from service.resources.memory import BYTES_PER_PIXEL, pictures_that_fit

log = logging.getLogger(__name__)

Results = tuple[list[Any], Timings]

_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1"}
_RESTART_SECONDS = 1.0
"""Pause before a dead worker is replaced, so that one which dies at its start costs little."""

_END_SECONDS = 5.0
"""How long a fork server may take to end; one that reads a gallery does not hear that it should."""


class ForkServerClient:
    """Starts a fork server and asks it, one request after the other.

    Args:
        opening: What it opens.
    """

    def __init__(self, opening: Opening) -> None:
        self._lock = asyncio.Lock()
        self._end, other = socket_pair()
        with other:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "service.inference.fork_server", str(other.fileno())],
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                env=_ENVIRONMENT | os.environ,
            )
        send(self._end, opening)

    async def opened(self) -> Opened:
        """Wait until the pair is open.

        Raises:
            CairnError: An artifact is missing, damaged or mismatched, or the device is not there.
            ForkServerDiedError: It has died.
        """
        opened: Opened = await self._reply()
        return opened

    async def look_up(self, name: str, *arguments: object) -> bytes:
        """Call a method of :class:`~service.inference.browser.GalleryBrowser`.

        Where this is canceled, the answer is waited for all the same: the next one comes behind it.

        Raises:
            RequestRefusedError: As the method says.
            ForkServerDiedError: It has died.
        """

        async def ask() -> bytes:
            async with self._lock:
                await asyncio.to_thread(self._send, (name, *arguments))
                reply: bytes = await self._reply()
                return reply

        return await asyncio.shield(ask())

    async def fork(self, threads: int) -> socket.socket:
        """Have a worker of so many threads forked; return the socket to it.

        Raises:
            ForkServerDiedError: It has died.
        """
        end, other = socket_pair()
        try:
            with other:
                async with self._lock:
                    await asyncio.to_thread(self._send, (FORK, threads), other)
        except BaseException:
            end.close()
            raise
        return end

    def _send(self, message: object, passed: socket.socket | None = None) -> None:
        try:
            send(self._end, message)
            if passed is not None:
                socket.send_fds(self._end, [b"\0"], [passed.fileno()])
        except OSError as error:
            raise ForkServerDiedError("the process that holds the gallery has ended") from error

    async def _reply(self) -> Any:  # noqa: ANN401 - any message
        try:
            reply = await asyncio.to_thread(receive, self._end)
        except (EOFError, OSError) as error:
            raise ForkServerDiedError("the process that holds the gallery has ended") from error
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def close(self) -> None:
        """End the process, and with it its workers."""
        with self._end:
            self._end.shutdown(socket.SHUT_RDWR)
        await asyncio.to_thread(self._wait)

    def _wait(self) -> None:
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Worker:
    """One worker process; make it by :meth:`open`.

    Attributes:
        started: What it said when it was ready.
        threads: That it computes with.
    """

    started: Started
    threads: int

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._running: dict[int, asyncio.Future[Results]] = {}
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, end: socket.socket, died: Callable[["Worker"], None]) -> Self:
        """Wait until a forked worker is ready.

        Args:
            end: The socket to it.
            died: Called once, when it has died.

        Raises:
            CairnError: It cannot load the embedder.
            WorkerDiedError: It has died at its start.
        """
        worker = cls(*await asyncio.open_unix_connection(sock=end))
        try:
            worker.started = await worker._start()
        except BaseException:
            worker.close()
            raise
        worker._listening = asyncio.ensure_future(worker._listen(died))
        return worker

    async def _start(self) -> Started:
        try:
            reply: Started | Exception = await receive_async(self._reader)
        except (EOFError, OSError) as error:
            raise WorkerDiedError("a worker has died at its start") from error
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def run(self, tasks: Sequence[tuple[int, Task]], seconds: float) -> Results:
        """Have a batch of numbered tasks answered.

        Args:
            tasks: At least one; numbers are never used again.
            seconds: The worker is killed if it takes longer.

        Returns:
            For each task its answer or an exception, and how long the stages took.

        Raises:
            WorkerDiedError: The worker has died.
        """
        number = tasks[0][0]
        done = self._running[number] = asyncio.get_running_loop().create_future()
        self._writer.writelines(pack(list(tasks)))
        try:
            async with asyncio.timeout(seconds):
                results: Results = await done
                return results
        except TimeoutError:
            process = self.started.process
            log.error("worker %d is stuck and is killed", process)  # noqa: TRY400 - foreseen
            self.kill()
            raise WorkerDiedError("the picture could not be answered in time") from None
        finally:
            self._running.pop(number, None)

    def abandon(self, number: int) -> None:
        """Say that nobody waits for a task any more."""
        self._writer.writelines(pack(number))

    def expect_memory(self) -> None:
        """Say that the gallery's files have been read into memory."""
        self._writer.writelines(pack(IN_MEMORY))

    def kill(self) -> None:
        """End the process whatever it does."""
        with contextlib.suppress(ProcessLookupError):  # it died just now
            os.kill(self.started.process, signal.SIGKILL)

    def close(self) -> None:
        """End the process; nothing may be under way."""
        if self._listening is not None:
            self._listening.cancel()
        self._writer.close()

    async def _listen(self, died: Callable[["Worker"], None]) -> None:
        try:
            while True:
                number, results, timings = await receive_async(self._reader)
                if number in self._running and not self._running[number].done():
                    self._running[number].set_result((results, timings))
        except (EOFError, OSError):
            self._writer.close()
            for running in self._running.values():
                if not running.done():
                    running.set_exception(WorkerDiedError("a worker has died"))
            died(self)


class Pool:
    """A fork server and its workers; make it by :meth:`open`.

    Args:
        opening: What they open.

    Attributes:
        opened: What the fork server has open.
        ready: What answers.
        slots: Batches that may be under way at a time.
        broken: Whether the fork server has died, so that no worker can be replaced.
        on_free: Called when a worker can begin a batch that could not before.
    """

    opened: Opened
    ready: Ready
    slots: int

    def __init__(self, opening: Opening) -> None:
        self.broken = False
        self.on_free: Callable[[], None] = lambda: None
        self._opening = opening
        self._server = ForkServerClient(opening)
        self._workers: set[Worker] = set()
        self._free: list[Worker] = []  # once for each batch that it may begin
        self._in_memory = False
        self._restarts: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, opening: Opening, *, deep: bool = False) -> Self:
        """Start the processes, and wait until they are ready.

        Args:
            opening: What they open.
            deep: Check every byte of the gallery first, which there is time for while another
                pool serves.

        Raises:
            CairnError: An artifact is missing, damaged or mismatched, or the device is not there.
            WorkerDiedError: A process has died at its start.
        """
        pool = cls(opening)
        try:
            opened = pool.opened = await pool._server.opened()
            if deep:
                await asyncio.to_thread(check_files, opened.directory, opened.files, deep=True)
            await pool._start_workers()
        except BaseException:
            await pool.close()
            raise
        return pool

    async def _start_workers(self) -> None:
        """Start one worker, which shows how large they are, and then as many as fit beside it."""
        cores = self._opening.cores.total
        first = await self._add_worker(cores // self.opened.workers)
        self.ready = first.started.ready
        workers = self._workers_that_fit(first.started.own_bytes)
        self.slots = workers * self.opened.batches
        left = [cores // workers + (number < cores % workers) for number in range(workers)]
        if first.threads in left:
            left.remove(first.threads)
        else:
            self._remove(first)
            first.close()
        try:
            async with asyncio.TaskGroup() as starting:
                for threads in left:
                    starting.create_task(self._add_worker(threads))
        except* Exception as errors:
            raise errors.exceptions[0] from None

    def _workers_that_fit(self, own_bytes: int) -> int:
        wanted, max_pixels = self.opened.workers, self._opening.max_pixels
        room = self._opening.room_bytes
        fit = pictures_that_fit(room, max_pixels=max_pixels, worker_bytes=own_bytes)
        if fit < wanted:
            log.warning(
                "workers: %d rather than %d, since each takes %d MiB, twice while a gallery is "
                "replaced, and %d MiB for a picture of %d pixels, of %d MiB in all; give the "
                "service more memory, or lower --max-pixels",
                fit,
                wanted,
                own_bytes >> 20,
                BYTES_PER_PIXEL * max_pixels >> 20,
                max_pixels,
                max(0, room) >> 20,
            )
        return min(fit, wanted)

    @property
    def has_free(self) -> bool:
        """Whether a worker can begin a batch."""
        return bool(self._free)

    def take(self) -> Worker:
        """Take a worker that can begin a batch: the one used last, whose memory is warm."""
        return self._free.pop()

    def give_back(self, worker: Worker) -> None:
        """Say that a batch of a worker has ended; nothing happens if it has died."""
        if worker in self._workers:
            self._free.append(worker)

    async def look_up(self, name: str, *arguments: object) -> bytes:
        """Ask the fork server; see :meth:`ForkServerClient.look_up`."""
        return await self._server.look_up(name, *arguments)

    def expect_memory(self) -> None:
        """Say that the gallery's files have been read into memory."""
        self._in_memory = True
        for worker in self._workers:
            worker.expect_memory()

    async def close(self) -> None:
        """End all processes; nothing may be under way."""
        for restart in self._restarts:
            restart.cancel()
        for worker in self._workers:
            worker.close()
        self._workers.clear()
        await self._server.close()

    async def _add_worker(self, threads: int) -> Worker:
        worker = await Worker.open(await self._server.fork(threads), self._replace)
        worker.threads = threads
        self._workers.add(worker)
        if self._in_memory:
            worker.expect_memory()
        self._free += [worker] * self.opened.batches
        self.on_free()
        return worker

    def _remove(self, worker: Worker) -> None:
        self._workers.discard(worker)
        self._free = [other for other in self._free if other is not worker]

    def _replace(self, dead: Worker) -> None:
        self._remove(dead)
        restart = asyncio.ensure_future(self._restart(dead.threads))
        self._restarts.add(restart)
        restart.add_done_callback(self._restarts.discard)

    async def _restart(self, threads: int) -> None:
        while True:
            await asyncio.sleep(_RESTART_SECONDS)
            try:
                await self._add_worker(threads)
            except ForkServerDiedError:
                self.broken = True
            except (CairnError, OSError) as error:
                log.error("a worker cannot be started: %s", error)  # noqa: TRY400 - it is foreseen
                continue
            return
