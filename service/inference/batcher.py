"""Threads that answer pictures in batches. Knows nothing of HTTP, or of what a network does.

There is a thread for every core, and :mod:`service.inference.scheduler` chooses what each does
next. One lock guards the scheduler, never held for longer than it takes to choose. Threads choose
by themselves: if the event loop told them what is next, their cores would rest meanwhile.
"""

import asyncio
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from embedder.embedder import Prepared
from service.contract.schemas import Answer
from service.inference.errors import (
    DeadlineError,
    OutOfMemoryError,
    StoppingError,
    TooManyPicturesError,
)
from service.inference.recognizer import Recognizer, run_size
from service.inference.scheduler import Bounds, Decode, RunBatch, Scheduler
from service.inference.tasks import Task
from service.resources.cores import prioritize_event_loop
from service.telemetry.metrics import Metrics


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
    """Answers each picture with the recognizer that is current when it arrives.

    Make it, and call everything but :meth:`close`, on the event loop's thread.

    Args:
        recognizer: What answers, until :meth:`switch`.
        bounds: Limits on work that is under way and that waits.
        metrics: Gets the times of each stage.

    Attributes:
        recognizer: What answers pictures that arrive now.
    """

    def __init__(self, recognizer: Recognizer, bounds: Bounds, metrics: Metrics) -> None:
        self.recognizer = recognizer
        self._bounds = bounds
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()  # guards the scheduler and _closing
        self._scheduler: Scheduler[_Job] = Scheduler(bounds)
        self._closing = False
        # A thread that waits for a GPU needs no core.
        more = 0 if bounds.cores_per_batch else bounds.parallel_batches
        self._threads = [
            threading.Thread(target=self._work, name=f"work-{number}", daemon=True)
            for number in range(bounds.cores + more)
        ]
        for thread in self._threads:
            thread.start()

    async def answer(self, data: bytes, k: int | None = None, *, client: str = "") -> Answer:
        """Recognize the landmark of a picture. Canceling this cancels the work.

        Args:
            data: The file's bytes.
            k: Neighbors to return, at least 0; None leaves them out of the answer.
            client: Who asks. Clients take turns, whatever number of pictures each has waiting.

        Raises:
            PictureError: The picture cannot be used; its ``reason`` says why.
            OverloadedError: Too many pictures wait, or it could not be answered in time.
            TooManyPicturesError: Too many wait, and most of them are this client's.
            DeadlineError: It was not answered in time.
            OutOfMemoryError: There is no memory to decode it in.
            StoppingError: The service is shutting down.
        """
        job = _Job(data, k, client, self.recognizer, self._loop.create_future())
        self._add(job)
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
            with self._changed:
                self._scheduler.remove(job)
                self._changed.notify()  # without it another batch may begin
            del job, data  # an error holds this frame, and the job holds the error

    async def ask(self, task: Task, *, client: str = "") -> Any:  # noqa: ANN401 - by the task
        """Have a task done.

        Raises:
            PictureError: The picture cannot be used; its ``reason`` says why.
            IdUnknownError: The gallery has no landmark or picture of an id.
            NothingToSearchError: No picture is left to compare with.
            OverloadedError: Too many pictures wait, or it could not be answered in time.
            TooManyPicturesError: Too many wait, and most of them are this client's.
            DeadlineError: It was not answered in time.
            OutOfMemoryError: There is no memory to decode it in.
            StoppingError: The service is shutting down.
        """
        if not task.needs_own_search and len(task.pictures) == 1:
            return await self.answer(task.pictures[0], task.options.k, client=client)
        [result] = await asyncio.to_thread(self.recognizer.perform, [task])
        if isinstance(result, Exception):
            raise result
        return result

    async def look_up(self, name: str, *arguments: object) -> Any:  # noqa: ANN401 - by the name
        """Look something up by a method of the recognizer."""
        return await asyncio.to_thread(getattr(self.recognizer, name), *arguments)

    def refuse_if_full(self, client: str) -> None:
        """Refuse a picture that there is no room or no time for, before its body is read.

        Raises:
            OverloadedError: As for :meth:`answer`.
            TooManyPicturesError: As for :meth:`answer`.
            StoppingError: As for :meth:`answer`.
        """
        with self._changed:
            self._refuse_if_closing()
            self._scheduler.refuse_if_full(client)

    @property
    def idle(self) -> bool:
        """Whether no picture is here."""
        with self._changed:
            return self._scheduler.is_idle

    async def warm(self, recognizer: Recognizer, pictures: Sequence[bytes]) -> None:
        """Run pictures through every stage of ``recognizer``, in each batch size that occurs.

        Afterwards the event loop's thread has priority over all others of the process, and over
        those that they start.

        Args:
            recognizer: Current or about to be.
            pictures: At least one, which it can read.
        """
        prepared = [await asyncio.to_thread(recognizer.prepare, data) for data in pictures]
        for size in sorted({run_size(size) for size in range(1, self._bounds.batch + 1)}):
            batch = [prepared[number % len(prepared)] for number in range(size)]
            run = partial(asyncio.to_thread, recognizer.answer, batch, [None] * size)
            await asyncio.gather(*(run() for _ in range(self._bounds.parallel_batches)))
        prioritize_event_loop()

    def switch(self, recognizer: Recognizer) -> None:
        """Answer with ``recognizer`` what arrives from now on.

        Pictures under way are finished by the previous one, which is freed with the last of them,
        since nothing else holds it.
        """
        self.recognizer = recognizer

    async def close(self) -> None:
        """Refuse new pictures, finish those under way, end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise StoppingError("the service is shutting down")

    def _add(self, job: _Job) -> None:
        with self._changed:
            self._refuse_if_closing()
            displaced = self._scheduler.add(job)
            wait = self._scheduler.expected_wait_seconds()
            self._changed.notify()
        if displaced is not None:
            _fail(displaced, TooManyPicturesError("too many of your pictures wait", wait))

    # What a thread does.

    def _work(self) -> None:
        """Do one step after the other, until the service stops and nothing is left."""
        while True:
            with self._changed:
                while (step := self._scheduler.next_step()) is None:
                    if self._closing:
                        return
                    self._changed.wait()
                if self._scheduler.has_work:
                    self._changed.notify()  # another thread may have a step, too
            if isinstance(step, Decode):
                self._decode(step.picture)
            else:
                self._run(step)

    def _decode(self, job: _Job) -> None:
        started = time.perf_counter()
        self._metrics.stage_seconds.labels("queue").observe(started - job.since)
        try:
            job.prepared = job.recognizer.prepare(job.data)
        except Exception as error:  # whatever it is belongs to the one who asked
            traceback.clear_frames(error.__traceback__)  # they hold the picture
            self._deliver([job], error)
        seconds = time.perf_counter() - started
        job.data = b""
        if job.prepared is not None:
            self._metrics.stage_seconds.labels("decode").observe(seconds)
        with self._changed:
            if job.prepared is None or job.answer.done():
                self._scheduler.decoding_failed()
            else:
                self._scheduler.decoded(job, seconds)
        del job  # an error holds this frame, and the job holds the error

    def _run(self, step: RunBatch[_Job]) -> None:
        started = time.perf_counter()
        self._answer_batch(step.pictures)
        seconds = time.perf_counter() - started
        with self._changed:
            self._scheduler.batch_done(len(step.pictures), seconds)
            self._changed.notify(self._bounds.cores_per_batch - 1)  # with this one, one a core

    def _answer_batch(self, batch: list[_Job]) -> None:
        """Answer a batch; where it fails, each picture by itself, so that one harms no other."""
        try:
            self._deliver(batch, self._recognize(batch))
        except Exception as error:  # whatever it is belongs to those who asked
            if len(batch) == 1:
                self._deliver(batch, error)
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
            return recognizer.search(vectors, [job.k for job in batch])

    def _deliver(self, batch: Sequence[_Job], outcome: list[Answer] | Exception) -> None:
        """Hand answers, or the error, to those who asked; on the event loop's thread."""
        self._loop.call_soon_threadsafe(_resolve, batch, outcome)


def _resolve(batch: Sequence[_Job], outcome: list[Answer] | Exception) -> None:
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
