"""Requests in flight → batches. Knows nothing of HTTP, nor of what a network or a gallery is.

A picture waits in its client's line, is decoded, and then joins a batch that passes the network
and the search. There is a thread for every core, and no more is begun than there are cores to do
it: work that shares a core takes longer altogether, and whose is ready first is luck.

A thread that is free decodes the next picture that waits; once a batch is full, or nothing waits
to be decoded, it answers those that are ready. With little to do every picture is a batch of its
own and waits for nothing. The more there is, the fuller the batches, and the less time each of
their pictures takes.

What there is to do is guarded by one lock, never held for longer than it takes to choose. Threads
choose by themselves: if the event loop told them what is next, their cores would rest meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from embedder.embedder import Prepared
from service.contract.schemas import Answer
from service.http.problems import (
    DeadlineError,
    OutOfMemoryError,
    OverloadedError,
    StoppingError,
    TooManyRequestsError,
)
from service.inference.recognizer import Recognizer, run_size
from service.resources.cores import let_loop_go_first
from service.telemetry.metrics import Metrics

_FIRST_GUESS_SECONDS = 0.05
_MEMORY = 0.05  # weight of the newest picture in the running mean


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the batcher keeps to.

    Attributes:
        cores: Cores that may be busy. A picture that is decoded takes one.
        decoders: Pictures decoded at the same time.
        lanes: Batches answered at the same time.
        each: Cores that one of these takes; 0 where a GPU answers.
        waiting: Pictures that may wait to be decoded.
        batch: Most pictures of a batch.
        deadline_seconds: How long a picture may take, from its arrival here to its answer.
    """

    cores: int
    decoders: int
    lanes: int
    each: int
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
        self._changed = threading.Condition()  # guards all that follows
        self._lines: dict[str, deque[_Job]] = {}
        self._ready: deque[_Job] = deque()
        self._decoding = 0
        self._answering: list[int] = []  # the sizes of the batches
        self._decode_seconds = self._answer_seconds = _FIRST_GUESS_SECONDS
        self._closing = False
        more = 0 if bounds.each else bounds.lanes  # a thread that waits for a GPU needs no core
        self._threads = [
            threading.Thread(target=self._work, name=f"work-{number}", daemon=True)
            for number in range(bounds.cores + more)
        ]
        for thread in self._threads:
            thread.start()

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
        job = _Job(data, k, client, self.recognizer, self._loop.create_future())
        with self._changed:
            self._refuse_if_full(client)
            if (greedy := self._greedy(client)) is not None:
                wait = self._expected_wait()
                _fail(greedy.pop(), TooManyRequestsError("too many of your pictures wait", wait))
            self._lines.setdefault(client, deque()).append(job)
            self._changed.notify()
        self._metrics.waiting.inc()
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
            del job, data  # an error holds this frame, and the job holds the error

    def refuse_if_full(self, client: str) -> None:
        """Refuse a picture that there is no room or no time for.

        Where the lines are full and another client has more pictures in them, there is room: the
        newest picture of that client will give way.

        Raises:
            OverloadedError: As for :meth:`answer`.
            TooManyRequestsError: As for :meth:`answer`.
            StoppingError: As for :meth:`answer`.
        """
        with self._changed:
            self._refuse_if_full(client)

    def _refuse_if_full(self, client: str) -> None:
        if self._closing:
            raise StoppingError("the service is about to end")
        wait = self._expected_wait()
        if self._waiting() >= self._bounds.decoders and wait > self._bounds.deadline_seconds:
            raise OverloadedError("the service has more to do than it can in time", wait)
        if not self._is_full() or self._greedy(client) is not None:
            return
        if client in self._lines and len(self._lines) > 1:
            raise TooManyRequestsError("too many of your pictures wait", wait)
        raise OverloadedError("too many pictures wait", wait)

    def _is_full(self) -> bool:
        """Tell whether no more may wait. What a free core is about to take does not."""
        free = min(self._bounds.decoders - self._decoding, self._free_cores())
        taken = free if self._may_decode() else 0
        return self._waiting() - taken >= self._bounds.waiting

    def _waiting(self) -> int:
        return sum(map(len, self._lines.values()))

    def _greedy(self, client: str) -> deque[_Job] | None:
        """Return the line that must give way to a picture of ``client``, where the lines are full.

        It is the longest, if it stays at least as long as the client's own.
        """
        if not self._is_full():
            return None
        longest = max(self._lines.values(), key=len)
        own = len(self._lines.get(client, ()))
        return longest if len(longest) > own + 1 else None

    def _expected_wait(self) -> float:
        """Guess how many seconds pass until all that is here is answered."""
        decode = self._decode_seconds / self._bounds.decoders
        answer = self._answer_seconds / self._bounds.lanes
        decoded = len(self._ready) + sum(self._answering)
        return (self._waiting() + self._decoding) * (decode + answer) + decoded * answer

    def _forget(self, job: _Job) -> None:
        """Take a picture out of its line, if it is there still."""
        with self._changed:
            line = self._lines.get(job.client)
            if line is not None:
                if job in line:
                    line.remove(job)
                if not line:
                    del self._lines[job.client]
            self._changed.notify()  # its going may let another batch begin

    @property
    def idle(self) -> bool:
        """Whether no picture is here."""
        with self._changed:
            return not (self._lines or self._ready or self._decoding or self._answering)

    def count(self, outcome: str) -> None:
        """Note what became of one picture: ``answered``, or the code of a problem."""
        self._metrics.outcomes.labels(outcome).inc()

    # What a thread does.

    def _work(self) -> None:
        """Do what is to be done, until nothing will come any more."""
        while True:
            with self._changed:
                while (task := self._next_task()) is None:
                    if self._closing:
                        return
                    self._changed.wait()
                if self._lines or self._ready:
                    self._changed.notify()  # there may be something for another one
            task()

    def _next_task(self) -> Callable[[], None] | None:
        """Choose what to do next, and count it as begun; None if there is nothing, or no core."""
        self._ready = deque(job for job in self._ready if not job.answer.done())
        job = self._next_in_turn() if self._may_decode() else None
        if job is not None:
            self._decoding += 1
            return partial(self._decode, job)
        if self._ready and self._may_answer():
            batch = self._take_batch()
            self._answering.append(len(batch))
            return partial(self._answer, batch)
        return None

    def _may_decode(self) -> bool:
        """Tell whether the next core decodes, if it can; else it answers, or waits for others."""
        few = len(self._ready) < 2 * self._bounds.batch * self._bounds.lanes
        free = self._decoding < self._bounds.decoders and self._free_cores() > 0
        return few and free and not self._batch_is_due()

    def _batch_is_due(self) -> bool:
        """Tell whether what is ready should be answered, though more waits to be decoded."""
        if len(self._answering) == self._bounds.lanes:
            return False
        return len(self._ready) >= (self._share() if self._bounds.each else 1)

    def _share(self) -> int:
        """Return the size of the next batch: a lane's share of all that is here, within bounds.

        More would leave the other lanes idle at the end, and fewer would take longer for each.
        """
        here = self._waiting() + self._decoding + len(self._ready)
        return min(self._bounds.batch, -(-here // self._bounds.lanes))

    def _may_answer(self) -> bool:
        has_lane = len(self._answering) < self._bounds.lanes
        return has_lane and self._free_cores() >= self._bounds.each

    def _free_cores(self) -> int:
        busy = self._decoding + len(self._answering) * self._bounds.each
        return self._bounds.cores - busy

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

    def _take_batch(self) -> list[_Job]:
        """Take the pictures of the next batch, oldest first, all of one recognizer."""
        recognizer = self._ready[0].recognizer
        batch = [job for job in self._ready if job.recognizer is recognizer][: self._share()]
        self._ready = deque(job for job in self._ready if job not in batch)
        return batch

    def _decode(self, job: _Job) -> None:
        started = time.perf_counter()
        self._metrics.stage_seconds.labels("queue").observe(started - job.since)
        try:
            job.prepared = job.recognizer.prepare(job.data)
        except Exception as error:  # whatever it is belongs to the one who asked
            traceback.clear_frames(error.__traceback__)  # they hold the picture
            self._tell([job], error)
        seconds = time.perf_counter() - started
        job.data = b""
        with self._changed:
            self._decoding -= 1
            if job.prepared is not None:
                self._decode_seconds += _MEMORY * (seconds - self._decode_seconds)
                self._ready.append(job)
        if job.prepared is not None:
            self._metrics.stage_seconds.labels("decode").observe(seconds)
        del job  # an error holds this frame, and the job holds the error

    def _answer(self, batch: list[_Job]) -> None:
        started = time.perf_counter()
        self._answer_batch(batch)
        seconds = (time.perf_counter() - started) / len(batch)
        with self._changed:
            self._answer_seconds += _MEMORY * (seconds - self._answer_seconds)
            self._answering.remove(len(batch))
            self._changed.notify(self._bounds.each - 1)  # with this thread, one for each core

    def _answer_batch(self, batch: list[_Job]) -> None:
        """Answer a batch; where it fails, each picture by itself, so that one harms no other."""
        try:
            self._tell(batch, self._recognize(batch))
        except Exception as error:  # whatever it is belongs to those who asked
            if len(batch) == 1:
                self._tell(batch, error)
                return
        else:
            return
        for job in batch:  # not above, where the error would hold what the batch took
            self._answer_batch([job])

    def _recognize(self, batch: Sequence[_Job]) -> list[Answer]:
        recognizer = batch[0].recognizer
        prepared = [job.prepared for job in batch if job.prepared is not None]
        self._metrics.batch_pictures.observe(len(batch))
        with self._metrics.stage_seconds.labels("network").time():
            vectors = recognizer.embed(prepared)
        with self._metrics.stage_seconds.labels("search").time():
            return recognizer.look_up(vectors, [job.k for job in batch])

    def _tell(self, batch: Sequence[_Job], outcome: list[Answer] | Exception) -> None:
        """Let the event loop tell those who asked what became of their pictures."""
        self._loop.call_soon_threadsafe(_settle, batch, outcome)

    # Beginning, changing, ending.

    async def warm(self, recognizer: Recognizer, pictures: Sequence[bytes]) -> None:
        """Send pictures through every stage of ``recognizer``, in each size that the network meets.

        All threads of the process but the event loop's are nicer afterwards, and those that they
        start.

        Args:
            recognizer: Current or about to be.
            pictures: At least one, of those that it can read.
        """
        prepared = [await asyncio.to_thread(recognizer.prepare, data) for data in pictures]
        for size in sorted({run_size(size) for size in range(1, self._bounds.batch + 1)}):
            batch = [prepared[number % len(prepared)] for number in range(size)]
            run = partial(asyncio.to_thread, recognizer.answer, batch, [None] * size)
            await asyncio.gather(*(run() for _ in range(self._bounds.lanes)))
        let_loop_go_first()

    def switch(self, recognizer: Recognizer) -> None:
        """Answer with ``recognizer`` what arrives from now on.

        What is under way is finished by the one it began with, which is freed with the last of
        it, since nothing else holds it.
        """
        self.recognizer = recognizer

    async def close(self) -> None:
        """Refuse what comes, finish what is under way, end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)


def _settle(batch: Sequence[_Job], outcome: list[Answer] | Exception) -> None:
    if isinstance(outcome, Exception):
        for job in batch:
            _fail(job, outcome)
        return
    for job, answer in zip(batch, outcome, strict=True):
        if not job.answer.done():
            job.answer.set_result(answer)


def _fail(job: _Job, error: Exception) -> None:
    if isinstance(error, MemoryError):
        error = OutOfMemoryError("there is no memory for this picture at the moment", 1)
    if not job.answer.done():
        job.answer.set_exception(error)
