"""Lets clients do one thing at a time: in turns, by the time that each has taken."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.dispatch.scheduler import Bounds, Scheduler
from service.inference.errors import TooManyPicturesError


@dataclass(eq=False, slots=True)
class _Turn:
    """One who waits for a turn, or has it."""

    client: str
    begun: asyncio.Future[None]
    size: int = 1
    alone: bool = True


class Turns:
    """Who has the turn, and who waits.

    Args:
        waiting: How many may wait.
        deadline_seconds: How long one may be expected to wait.
    """

    def __init__(self, waiting: int, deadline_seconds: float) -> None:
        self._scheduler: Scheduler[_Turn] = Scheduler(Bounds(1, waiting, 1, deadline_seconds))
        self._now: _Turn | None = None

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn, which lasts as long as the block.

        Args:
            client: Whose it is.

        Raises:
            OverloadedError: Too many wait.
            TooManyPicturesError: Too many wait, and most of them are this client's.
        """
        turn = _Turn(client, asyncio.get_running_loop().create_future())
        if (displaced := self._scheduler.add(turn)) is not None and not displaced.begun.done():
            wait = self._scheduler.expected_wait_seconds()
            displaced.begun.set_exception(TooManyPicturesError("too many of yours wait", wait))
        self._begin_next()
        started = time.perf_counter()
        try:
            await turn.begun
            started = time.perf_counter()
            yield
        finally:
            self._scheduler.remove(turn)
            if self._now is turn:
                self._now = None
                self._scheduler.batch_done([turn], [time.perf_counter() - started])
                self._begin_next()

    def _begin_next(self) -> None:
        if self._now is None and (batch := self._scheduler.next_batch()):
            [self._now] = batch
            if not self._now.begun.done():  # else it was canceled just now, and is about to end
                self._now.begun.set_result(None)
