"""Chooses which pictures a free worker answers next. Pure: no locks, clocks, processes.

A picture waits in its client's queue until it joins a batch. Clients take turns by the time that
their pictures take: who has used least is next. With little to do every picture is a batch of its
own and waits for no other; the more there is, the fuller the batches.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from service.inference.errors import OverloadedError, TooManyPicturesError

_FIRST_GUESS_SECONDS = 0.05
_NEWEST_WEIGHT = 0.05  # of the newest batch in the running mean
_REMEMBERED = 1000  # clients of whom nothing waits


class Picture(Protocol):
    """What the scheduler looks at in what waits."""

    @property
    def client(self) -> str:
        """Who asks."""

    @property
    def size(self) -> int:
        """How many pictures it is; several are one query."""

    @property
    def alone(self) -> bool:
        """Whether it must be a batch of its own."""


P = TypeVar("P", bound=Picture)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the scheduler keeps to.

    Attributes:
        slots: Batches that may be under way at the same time.
        waiting: Pictures that may wait, in all queues together.
        batch: Most pictures of a batch.
        deadline_seconds: How long a picture may take, from its arrival to its answer.
    """

    slots: int
    waiting: int
    batch: int
    deadline_seconds: float


class Scheduler(Generic[P]):
    """Queues of pictures, and the choice of the next batch.

    Attributes:
        bounds: What is kept to.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._queues: dict[str, deque[P]] = {}  # none is empty
        self._used: dict[str, float] = {}  # seconds, by client, since the service was last idle
        self._turn = 0.0  # what the client whose turn was last had used
        self._running = 0  # pictures
        self._batches = 0
        self._picture_seconds = _FIRST_GUESS_SECONDS  # of one picture, at a worker

    # Pictures come and go.

    def add(self, picture: P) -> P | None:
        """Take a picture in.

        Returns:
            The picture that must give way to it: the newest of the client with the longest queue.
            None where there is room.

        Raises:
            OverloadedError: The queues are full, or a deadline would pass in them.
            TooManyPicturesError: The queues are full, and this client has its share of them.
        """
        self.refuse_if_full(picture.client)
        heaviest = self._heaviest_client(picture.client) if self._is_full() else None
        displaced = self._pop_newest(heaviest) if heaviest is not None else None
        self._queue_of(picture.client).append(picture)
        return displaced

    def retry(self, picture: P) -> None:
        """Take a picture in again, before all others of its client."""
        self._queue_of(picture.client).appendleft(picture)

    def refuse_if_full(self, client: str) -> None:
        """Refuse a picture that there is no room or no time for.

        There is room if another client's queue is longer by at least two: the newest picture in
        it will give way.

        Raises:
            OverloadedError: As for :meth:`add`.
            TooManyPicturesError: As for :meth:`add`.
        """
        wait = self.expected_wait_seconds()
        if wait > self.bounds.deadline_seconds and self._waiting() >= self.bounds.slots:
            raise OverloadedError("the service has more to do than it can in time", wait)
        if not self._is_full() or self._heaviest_client(client) is not None:
            return
        if client in self._queues and len(self._queues) > 1:
            raise TooManyPicturesError("too many of your pictures wait", wait)
        raise OverloadedError("too many pictures wait", wait)

    def remove(self, picture: P) -> None:
        """Forget a picture that waits; nothing happens if it does not."""
        if picture in self._queues.get(picture.client, ()):
            self._queues[picture.client].remove(picture)
            self._drop_if_empty(picture.client)

    def expected_wait_seconds(self) -> float:
        """Estimate how long it takes until all that is here is answered."""
        return (self._waiting() + self._running) * self._picture_seconds / self.bounds.slots

    @property
    def is_idle(self) -> bool:
        """Whether no picture is here."""
        return not (self._queues or self._batches)

    # Batches.

    def next_batch(self) -> list[P]:
        """Choose what a free worker answers next, and count it as begun; empty if nothing waits."""
        size, batch = self._batch_size(), list[P]()
        while self._queues and sum(picture.size for picture in batch) < size:
            client = min(self._queues, key=self._used.__getitem__)
            if batch and (batch[0].alone or self._queues[client][0].alone):
                break
            batch.append(self._queues[client].popleft())
            self._turn = self._used[client]
            self._used[client] += batch[-1].size * self._picture_seconds
            self._queues[client] = self._queues.pop(client)  # among equals, it is the last now
            self._drop_if_empty(client)
        if batch:
            self._batches += 1
            self._running += sum(picture.size for picture in batch)
        return batch

    def batch_done(self, batch: Sequence[P], seconds: Sequence[float]) -> None:
        """Report that a batch has ended, well or not.

        Args:
            batch: As it was chosen.
            seconds: What each of its pictures took of the worker's time.
        """
        count = sum(picture.size for picture in batch)
        self._batches -= 1
        self._running -= count
        for picture, taken in zip(batch, seconds, strict=True):
            if picture.client in self._used:
                self._used[picture.client] += taken - picture.size * self._picture_seconds
        mean = sum(seconds) / count
        self._picture_seconds += _NEWEST_WEIGHT * (mean - self._picture_seconds)
        if self.is_idle:
            self._used.clear()
            self._turn = 0.0
        elif len(self._used) > _REMEMBERED + len(self._queues):
            self._forget_clients()

    # The rules.

    def _queue_of(self, client: str) -> deque[P]:
        """Return the queue of a client; one that comes has its turn after each that waits."""
        if client not in self._queues:
            least = min((self._used[waits] for waits in self._queues), default=self._turn)
            start = least + self._picture_seconds if self._queues else least
            self._used[client] = max(self._used.get(client, 0.0), start)
        return self._queues.setdefault(client, deque())

    def _forget_clients(self) -> None:
        """Forget those who would not have to wait for their turn if they came back."""
        used = self._used.items()
        self._used = {c: s for c, s in used if s > self._turn or c in self._queues}

    def _waiting(self) -> int:
        return sum(picture.size for queue in self._queues.values() for picture in queue)

    def _is_full(self) -> bool:
        """Tell whether no more may wait; what a free worker is about to take does not."""
        free = max(0, self.bounds.slots - self._batches)  # another pool may still have some
        return self._waiting() - free >= self.bounds.waiting

    def _heaviest_client(self, client: str) -> str | None:
        """Return who must give way to a picture of ``client`` where the queues are full.

        It is the client with the longest queue, if that stays at least as long as the other's.
        """
        heaviest = max(self._queues, key=lambda name: len(self._queues[name]))
        own = len(self._queues.get(client, ()))
        return heaviest if len(self._queues[heaviest]) > own + 1 else None

    def _batch_size(self) -> int:
        """Return the size of the next batch: an even share of all that waits, within bounds.

        More would leave other workers idle at the end; fewer would take longer for each.
        """
        return max(1, min(self.bounds.batch, -(-self._waiting() // self.bounds.slots)))

    def _pop_newest(self, client: str) -> P:
        picture = self._queues[client].pop()
        self._drop_if_empty(client)
        return picture

    def _drop_if_empty(self, client: str) -> None:
        if not self._queues[client]:
            del self._queues[client]
