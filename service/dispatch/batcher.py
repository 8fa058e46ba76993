"""Gives pictures to worker processes in batches, and their answers to those who asked.

Everything happens on the event loop: whatever changes, a free worker gets the next batch.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from service.contract.schemas import Ready
from service.dispatch.pool import Pool, Worker
from service.dispatch.scheduler import Bounds, Scheduler
from service.dispatch.turns import Turns
from service.inference.errors import (
    DeadlineError,
    ForkServerDiedError,
    StoppingError,
    TooManyPicturesError,
    WorkerDiedError,
)
from service.inference.processes import Timings
from service.inference.tasks import Task
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Place, here

log = logging.getLogger(__name__)

_PATIENCE = 2.0
"""After how many deadlines a worker that still works on a batch is killed."""

_LOOK_SECONDS = 0.01

_LOOK_UPS = 1024
"""Look-ups that may wait: a page asks for five thumbnails at once, and each takes milliseconds."""


@dataclass(eq=False, slots=True)
class _Job:
    """One task on its way."""

    number: int
    task: Task
    client: str
    answer: asyncio.Future[Any]
    since: float = field(default_factory=time.perf_counter)
    place: Place = field(default_factory=here)
    worker: Worker | None = None
    alone: bool = False

    @property
    def size(self) -> int:
        return self.task.size


class Batcher:
    """Answers tasks with the pool that is current when their turn comes.

    Use it on the event loop that it was made on.

    Args:
        waiting: Pictures that may wait, and as many questions about the gallery.
        deadline_seconds: How long a picture may take, from its arrival to its answer.
        metrics: Gets the times of each stage.

    Attributes:
        pool: What answers; None until the first :meth:`switch`.
    """

    def __init__(self, waiting: int, deadline_seconds: float, metrics: Metrics) -> None:
        self.pool: Pool | None = None
        self._waiting = waiting
        self._deadline_seconds = deadline_seconds
        self._metrics = metrics
        self._numbers = itertools.count()
        self._scheduler: Scheduler[_Job] = Scheduler(Bounds(1, waiting, 1, deadline_seconds))
        self._look_ups = Turns(_LOOK_UPS, deadline_seconds)
        self._batches: dict[asyncio.Task[None], Pool] = {}
        self._ending: set[asyncio.Task[None]] = set()  # pools that have been replaced
        self._closing = False

    async def ask(self, task: Task, *, client: str = "") -> Any:  # noqa: ANN401 - by the task
        """Have a task done. Canceling this cancels the work.

        Args:
            task: What is asked.
            client: Who asks. Clients take turns, whatever number of pictures each has waiting.

        Raises:
            PictureError: The picture cannot be used; its ``reason`` says why.
            IdUnknownError: The gallery has no landmark or picture of an id of the options.
            NothingToSearchError: The options leave no picture to compare with.
            OverloadedError: Too many pictures wait, or it could not be answered in time.
            TooManyPicturesError: Too many wait, and most of them are this client's.
            DeadlineError: It was not answered in time.
            OutOfMemoryError: There is no memory to decode it in.
            WorkerDiedError: Each process that worked on it has died.
            StoppingError: The service is shutting down.
        """
        self._refuse_if_closing()
        answer = asyncio.get_running_loop().create_future()
        job = _Job(next(self._numbers), task, client, answer)
        if (displaced := self._scheduler.add(job)) is not None:
            wait = self._scheduler.expected_wait_seconds()
            _fail(displaced, TooManyPicturesError("too many of your pictures wait", wait))
        self._metrics.waiting.inc()
        self._begin_batches()
        try:
            async with asyncio.timeout(self._deadline_seconds) as deadline:
                return await answer
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineError("the picture could not be answered in time") from None
        finally:
            self._metrics.waiting.dec()
            self._scheduler.remove(job)
            if answer.cancelled() and job.worker is not None:
                job.worker.abandon(job.number)
            del job, task, answer  # an error holds this frame, and the answer holds the error

    def refuse_if_full(self, client: str) -> None:
        """Refuse a picture that there is no room or no time for, before its body is read.

        Raises:
            OverloadedError: As for :meth:`ask`.
            TooManyPicturesError: As for :meth:`ask`.
            StoppingError: As for :meth:`ask`.
        """
        self._refuse_if_closing()
        self._scheduler.refuse_if_full(client)

    async def thumbnail(self, client: str, picture: str, gallery: str | None) -> bytes:
        """Return a small JPEG of a picture of the gallery.

        Args:
            client: Who asks. Clients take turns here, too.
            picture: Its id.
            gallery: The build that must be serving; None for any.

        Raises:
            PictureUnknownError: There is no such thumbnail, or another build serves.
            OverloadedError: Too many wait.
            TooManyPicturesError: Too many wait, and most of them are this client's.
            DeadlineError: It was not answered in time.
            ForkServerDiedError: The process that holds the gallery has died.
        """
        return await self._look_up(client, "thumbnail", picture, gallery)

    async def landmarks(self, client: str, offset: int, limit: int, text: str | None) -> bytes:
        """List landmarks of the gallery: those whose names hold ``text``, or all of them.

        Args:
            client: Who asks.
            offset: How many are skipped.
            limit: How many are returned at most.
            text: Compared without regard to case and accents.

        Returns:
            The JSON of :class:`~service.contract.schemas.Landmarks`.

        Raises:
            OverloadedError: As for :meth:`thumbnail`.
            TooManyPicturesError: Likewise.
            DeadlineError: Likewise.
            ForkServerDiedError: Likewise.
        """
        return await self._look_up(client, "landmarks", offset, limit, text)

    async def _look_up(self, client: str, name: str, *arguments: object) -> bytes:
        try:
            async with asyncio.timeout(self._deadline_seconds), self._look_ups.turn(client):
                while True:
                    pool = self._open_pool()
                    try:
                        return await pool.look_up(name, *arguments)
                    except ForkServerDiedError:
                        if pool is self.pool:  # else it was replaced meanwhile
                            raise
        except TimeoutError:
            raise DeadlineError("the gallery could not be looked at in time") from None

    @property
    def ready(self) -> Ready:
        """What answers.

        Raises:
            ForkServerDiedError: No gallery is open.
        """
        return self._open_pool().ready

    def _open_pool(self) -> Pool:
        if self.pool is None:
            raise ForkServerDiedError("no gallery is open")
        return self.pool

    @property
    def is_idle(self) -> bool:
        """Whether no picture is here."""
        return self._scheduler.is_idle

    def switch(self, pool: Pool | None) -> None:
        """Answer with ``pool`` what has not begun; None is for want of any.

        The previous one ends when it has answered what it works on.
        """
        old, self.pool = self.pool, pool
        if pool is not None:
            batch, deadline = pool.opened.batch, self._deadline_seconds
            self._scheduler.bounds = Bounds(pool.slots, self._waiting, batch, deadline)
            pool.on_free = self._begin_batches
            self._begin_batches()
        if old is not None:
            old.on_free = lambda: None
            ending = asyncio.ensure_future(self._end(old))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Refuse new pictures, finish those that are here, end the processes."""
        self._closing = True
        while not self._scheduler.is_idle and self.pool is not None:
            await asyncio.sleep(_LOOK_SECONDS)
        if self.pool is not None:
            await self._end(self.pool)
        await asyncio.gather(*self._ending)

    async def _end(self, pool: Pool) -> None:
        if batches := [batch for batch, its_pool in self._batches.items() if its_pool is pool]:
            await asyncio.wait(batches)
        await pool.close()

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise StoppingError("the service is shutting down")

    # Batches.

    def _begin_batches(self) -> None:
        pool = self.pool
        while pool is not None and pool.has_free and (jobs := self._scheduler.next_batch()):
            batch = asyncio.ensure_future(self._run(pool, pool.take(), jobs))
            self._batches[batch] = pool
            batch.add_done_callback(self._batches.pop)

    async def _run(self, pool: Pool, worker: Worker, jobs: list[_Job]) -> None:
        started = time.perf_counter()
        for job in jobs:
            job.worker = worker
            self._metrics.observe_stage("queue", job.since, started - job.since, [job.place])
        seconds = [0.0] * len(jobs)
        try:
            tasks = [(job.number, job.task) for job in jobs]
            results, timings = await worker.run(tasks, _PATIENCE * self._deadline_seconds)
        except WorkerDiedError as error:
            seconds = [(time.perf_counter() - started) / len(jobs)] * len(jobs)
            self._retry(jobs, error)
        else:
            seconds = _seconds_of_each(jobs, timings)
            answered = sum(not isinstance(result, Exception) for result in results)
            self._observe(jobs, started, timings, answered)
            for job, result in zip(jobs, results, strict=True):
                _resolve(job, result)
        finally:
            self._scheduler.batch_done(jobs, seconds)
            pool.give_back(worker)
            self._begin_batches()

    def _retry(self, jobs: Sequence[_Job], error: WorkerDiedError) -> None:
        """Try each picture again by itself; the one that does it again is refused."""
        for job in jobs:
            job.worker = None
            if job.alone:
                _fail(job, error)
            elif not job.answer.done():
                job.alone = True
                self._scheduler.retry(job)

    def _observe(
        self, jobs: Sequence[_Job], started: float, timings: Timings, answered: int
    ) -> None:
        """Observe the stages of a batch, which follow each other."""
        stage = self._metrics.observe_stage
        for job, seconds in zip(jobs, timings.decode, strict=True):
            stage("decode", started, seconds, [job.place])
            started += seconds
        if answered:
            places = [job.place for job in jobs]
            self._metrics.batch_pictures.observe(answered)
            stage("network", started, timings.network, places)
            stage("search", started + timings.network, sum(timings.search), places)


def _seconds_of_each(jobs: Sequence[_Job], timings: Timings) -> list[float]:
    """Return what each job took of the worker's time; of the network's by its pictures."""
    network = timings.network / sum(job.size for job in jobs)
    stages = zip(jobs, timings.decode, timings.search, strict=True)
    return [decode + network * job.size + search for job, decode, search in stages]


def _resolve(job: _Job, result: object) -> None:
    if isinstance(result, Exception):
        _fail(job, result)
    elif not job.answer.done():
        job.answer.set_result(result)


def _fail(job: _Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
