"""Requests in flight → batches. Knows nothing of HTTP, nor of what a network or a gallery is.

A picture waits in its client's line, is decoded in a pool of threads, and then joins a batch that
passes the network and the search. One thread runs the batches, one at a time: each of them uses
all cores, or the one GPU.

A batch waits for company only where there is much to do: while every decoder is at work and the
pictures on their way would fill half a batch, and never long. The machine then alternates between
decoding several pictures and answering them together, which takes the least of its time for each.
With less to do nothing waits for anything but a free thread.

All state belongs to the event loop's thread; nothing here is locked.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from embedder.embedder import Prepared
from service.cores import let_loop_go_first
from service.errors import (
    DeadlineError,
    OutOfMemoryError,
    OverloadedError,
    StoppingError,
    TooManyRequestsError,
)
from service.metrics import Metrics
from service.recognizer import Recognizer
from service.schemas import Answer

LINGER_SECONDS = 0.03
"""How long a batch waits for company at most, while all cores decode."""

_FIRST_GUESS_SECONDS = 0.05
_MEMORY = 0.05  # weight of the newest picture in the running mean

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the batcher keeps to.

    Attributes:
        decoders: Pictures decoded at the same time.
        waiting: Pictures that may wait to be decoded.
        batch: Most pictures of a batch.
        deadline_seconds: How long a picture may take, from its arrival here to its answer.
    """

    decoders: int
    waiting: int
    batch: int
    deadline_seconds: float


@dataclass(eq=False, slots=True)
class _Job:
    """One picture on its way."""

    data: bytes
    k: int | None
    client: str
    recognizer: Recognizer
    answer: asyncio.Future[Answer]
    since: float = field(default_factory=time.perf_counter)
    prepared: Prepared | None = None


class Batcher:
    """Answers pictures with the recognizer that is current when each of them arrives.

    Make it, and call everything but :meth:`close`, on the event loop's thread.

    Args:
        recognizer: What answers, until :meth:`switch`.
        bounds: What is kept to.
        metrics: Told of every stage.

    Attributes:
        recognizer: What answers pictures that arrive now.
    """

    def __init__(self, recognizer: Recognizer, bounds: Bounds, metrics: Metrics) -> None:
        self.recognizer = recognizer
        self._bounds = bounds
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._lines: dict[str, deque[_Job]] = {}
        self._ready: deque[_Job] = deque()
        self._decoding = 0
        self._answering = 0
        self._closing = False
        self._linger: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._decode_seconds = self._answer_seconds = _FIRST_GUESS_SECONDS
        self._decoders = ThreadPoolExecutor(bounds.decoders, thread_name_prefix="decode")
        self._answerer = ThreadPoolExecutor(1, thread_name_prefix="answer")

    async def answer(self, data: bytes, k: int | None = None, *, client: str = "") -> Answer:
        """Say which landmark a picture shows. Canceling this cancels the work.

        Args:
            data: The file's bytes.
            k: Neighbors to tell of, at least 0; None leaves them out of the answer.
            client: Who asks. Clients take turns, whatever number of pictures each has waiting.

        Raises:
            PictureError: The picture cannot be used; its ``reason`` says why.
            OverloadedError: Too many pictures wait, or it could not be answered in time.
            TooManyRequestsError: Too many wait, and most of them are this client's.
            DeadlineError: It was not answered in time.
            OutOfMemoryError: There is no memory to decode it in.
            StoppingError: The service is about to end.
        """
        self.refuse_if_full(client)
        if (greedy := self._greedy(client)) is not None:
            fault = TooManyRequestsError("too many of your pictures wait", self._expected_wait())
            greedy.pop().answer.set_exception(fault)
        job = _Job(data, k, client, self.recognizer, self._loop.create_future())
        self._lines.setdefault(client, deque()).append(job)
        self._metrics.waiting.inc()
        self._decode_next()
        try:
            async with asyncio.timeout(self._bounds.deadline_seconds) as deadline:
                return await job.answer
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineError("the picture could not be answered in time") from None
        finally:
            self._metrics.waiting.dec()
            self._forget(job)

    def refuse_if_full(self, client: str) -> None:
        """Refuse a picture that there is no room or no time for.

        Where the lines are full and another client has more pictures in them, there is room: the
        newest picture of that client will give way.

        Raises:
            OverloadedError: As for :meth:`answer`.
            TooManyRequestsError: As for :meth:`answer`.
            StoppingError: As for :meth:`answer`.
        """
        if self._closing:
            raise StoppingError("the service is about to end")
        wait = self._expected_wait()
        if self._waiting() >= self._bounds.decoders and wait > self._bounds.deadline_seconds:
            raise OverloadedError("the service has more to do than it can in time", wait)
        if self._waiting() < self._bounds.waiting or self._greedy(client) is not None:
            return
        if client in self._lines and len(self._lines) > 1:
            raise TooManyRequestsError("too many of your pictures wait", wait)
        raise OverloadedError("too many pictures wait", wait)

    def _waiting(self) -> int:
        return sum(map(len, self._lines.values()))

    def _greedy(self, client: str) -> deque[_Job] | None:
        """Return the line that must give way to a picture of ``client``, where the lines are full.

        It is the longest, if it stays at least as long as the client's own.
        """
        if self._waiting() < self._bounds.waiting:
            return None
        longest = max(self._lines.values(), key=len)
        own = len(self._lines.get(client, ()))
        return longest if len(longest) > own + 1 else None

    def _expected_wait(self) -> float:
        """Guess how many seconds pass until all that is here is answered."""
        waiting = self._waiting() + self._decoding
        each = self._decode_seconds / self._bounds.decoders + self._answer_seconds
        return waiting * each + (len(self._ready) + self._answering) * self._answer_seconds

    def _forget(self, job: _Job) -> None:
        """Take a picture out of its line, if it is there still."""
        line = self._lines.get(job.client)
        if line is not None:
            if job in line:
                line.remove(job)
            if not line:
                del self._lines[job.client]

    def count(self, outcome: str) -> None:
        """Note what became of one picture: ``answered``, or the code of a problem."""
        self._metrics.outcomes.labels(outcome).inc()

    # Decoding.

    def _decode_next(self) -> None:
        """Keep the decoders busy, unless pictures are decoded faster than they are answered."""
        room = 2 * self._bounds.batch
        while self._decoding < self._bounds.decoders and len(self._ready) + self._decoding < room:
            job = self._next_in_turn()
            if job is None:
                return
            self._decoding += 1
            self._start(self._decode(job))

    def _next_in_turn(self) -> _Job | None:
        """Take the oldest picture of the client whose turn it is."""
        while self._lines:
            client, line = next(iter(self._lines.items()))
            del self._lines[client]
            job = line.popleft() if line else None
            if line:
                self._lines[client] = line  # again, at the end
            if job is not None and not job.answer.done():
                return job
        return None

    async def _decode(self, job: _Job) -> None:
        try:
            seconds, job.prepared = await self._in(self._decoders, _timed, self._prepare, job)
        except Exception as error:  # whatever it is belongs to the one who asked
            _fail(job, error)
        else:
            self._metrics.stage_seconds.labels("decode").observe(seconds)
            self._decode_seconds += _MEMORY * (seconds - self._decode_seconds)
            if not job.answer.done():
                self._ready.append(job)
        finally:
            job.data = b""
            self._decoding -= 1
            self._decode_next()
            self._answer_next()

    def _prepare(self, job: _Job) -> Prepared:
        self._metrics.stage_seconds.labels("queue").observe(time.perf_counter() - job.since)
        return job.recognizer.prepare(job.data)

    # Answering.

    def _answer_next(self) -> None:
        """Start the next batch, unless one is running or should wait for company."""
        if self._answering or not self._ready:
            return
        if self._decoding < self._bounds.decoders or not self._company_comes():
            self._begin_batch()
        elif self._linger is None:
            self._linger = self._loop.call_later(LINGER_SECONDS, self._end_linger)

    def _company_comes(self) -> bool:
        """Tell whether the next batch is not full, but could be filled by half at least."""
        ready = len(self._ready)
        coming = ready + self._decoding + self._waiting()
        return ready < self._bounds.batch <= 2 * coming

    def _end_linger(self) -> None:
        self._linger = None
        if not self._answering:
            self._begin_batch()

    def _begin_batch(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        batch = self._take_batch()
        if batch:
            self._answering = len(batch)
            self._start(self._run(batch))

    def _take_batch(self) -> list[_Job]:
        """Take the pictures of the next batch, oldest first, all of one recognizer."""
        alive = [job for job in self._ready if not job.answer.done()]
        same = [job for job in alive if job.recognizer is alive[0].recognizer]
        batch = same[: self._bounds.batch]
        self._ready = deque(job for job in alive if job not in batch)
        return batch

    async def _run(self, batch: list[_Job]) -> None:
        try:
            await self._answer_batch(batch)
        finally:
            self._answering = 0
            self._decode_next()
            self._answer_next()

    async def _answer_batch(self, batch: list[_Job]) -> None:
        """Answer a batch; where it fails, each picture by itself, so that one harms no other."""
        try:
            seconds, answers = await self._in(self._answerer, _timed, self._recognize, batch)
        except Exception as error:  # whatever it is belongs to those who asked
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            for job in batch:
                await self._answer_batch([job])
            return
        self._answer_seconds += _MEMORY * (seconds / len(batch) - self._answer_seconds)
        for job, answer in zip(batch, answers, strict=True):
            if not job.answer.done():
                job.answer.set_result(answer)

    def _recognize(self, batch: Sequence[_Job]) -> list[Answer]:
        recognizer = batch[0].recognizer
        prepared = [job.prepared for job in batch if job.prepared is not None]
        self._metrics.batch_pictures.observe(len(batch))
        with self._metrics.stage_seconds.labels("network").time():
            vectors = recognizer.embed(prepared)
        with self._metrics.stage_seconds.labels("search").time():
            return recognizer.look_up(vectors, [job.k for job in batch])

    # Beginning, changing, ending.

    async def warm(self, recognizer: Recognizer, pictures: Sequence[bytes]) -> None:
        """Send pictures through every stage of ``recognizer``, in each size of a batch.

        All the threads that will ever compute for it then are, and give way to the event loop's.

        Args:
            recognizer: Current or about to be.
            pictures: At least one, of those that it can read.
        """
        prepared = await asyncio.gather(
            *(
                self._in(self._decoders, recognizer.prepare, pictures[number % len(pictures)])
                for number in range(max(self._bounds.decoders, len(pictures)))
            )
        )
        size = 1
        while size <= self._bounds.batch:
            batch = [prepared[number % len(prepared)] for number in range(size)]
            await self._in(self._answerer, recognizer.answer, batch, [None] * size)
            size *= 2
        let_loop_go_first()

    def switch(self, recognizer: Recognizer) -> None:
        """Answer with ``recognizer`` what arrives from now on.

        What is under way is finished by the one it began with, which is freed with the last of
        it, since nothing else holds it.
        """
        self.recognizer = recognizer

    async def close(self) -> None:
        """Refuse what comes, finish what is under way, end the threads."""
        self._closing = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._decoders.shutdown()
        self._answerer.shutdown()

    def _start(self, work: Any) -> None:  # noqa: ANN401 - any coroutine
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _in(
        self,
        pool: ThreadPoolExecutor,
        work: Callable[..., _T],
        *arguments: Any,  # noqa: ANN401 - handed on
    ) -> Awaitable[_T]:
        return self._loop.run_in_executor(pool, work, *arguments)


def _timed(work: Callable[..., _T], *arguments: Any) -> tuple[float, _T]:  # noqa: ANN401 - handed on
    started = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - started, result


def _fail(job: _Job, error: Exception) -> None:
    if isinstance(error, MemoryError):
        error = OutOfMemoryError("there is no memory for this picture at the moment", 1)
    if not job.answer.done():
        job.answer.set_exception(error)
