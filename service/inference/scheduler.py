"""Chooses what a thread does next. Pure: no locks, threads, clocks or networks.

A picture waits in its client's queue, is decoded, and then joins a batch that passes the network
and the search. Clients take turns. A free core decodes the next picture that waits; once a batch
is full, or nothing waits to be decoded, it runs a batch of what is decoded. With little to do
every picture is a batch of its own and waits for no other; the more there is, the fuller the
batches. No more is begun than there are cores: work that shares a core takes longer altogether.

The caller reports what it has finished, and guards the whole object with one lock.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from service.inference.errors import OverloadedError, TooManyPicturesError

_FIRST_GUESS_SECONDS = 0.05
_NEWEST_WEIGHT = 0.05  # of the newest picture in the running means


class Picture(Protocol):
    """What the scheduler looks at in a picture that waits."""

    @property
    def client(self) -> str:
        """Who asks."""

    @property
    def recognizer(self) -> Hashable:
        """What answers; a batch holds pictures of one only."""


P = TypeVar("P", bound=Picture)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the scheduler keeps to.

    Attributes:
        cores: Cores that may be busy. Decoding a picture takes one.
        decoders: Pictures decoded at the same time.
        parallel_batches: Batches run at the same time.
        cores_per_batch: Cores that a batch keeps busy; 0 where a GPU runs it.
        waiting: Pictures that may wait to be decoded, in all queues together.
        batch: Most pictures of a batch.
        deadline_seconds: How long a picture may take, from its arrival to its answer.
    """

    cores: int
    decoders: int
    parallel_batches: int
    cores_per_batch: int
    waiting: int
    batch: int
    deadline_seconds: float


class Decode(NamedTuple, Generic[P]):
    """The next step is to decode a picture; report it by :meth:`Scheduler.decoded`."""

    picture: P


class RunBatch(NamedTuple, Generic[P]):
    """The next step is to run a batch; report it by :meth:`Scheduler.batch_done`."""

    pictures: list[P]


class Scheduler(Generic[P]):
    """Queues of pictures, and the choice of the next step.

    Args:
        bounds: What is kept to.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._queues: dict[str, deque[P]] = {}  # none is empty; the first client is the next
        self._ready: deque[P] = deque()  # decoded
        self._decoding = 0
        self._running: list[int] = []  # the sizes of the batches
        self._decode_seconds = self._batch_seconds = _FIRST_GUESS_SECONDS  # of one picture

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
        self._queues.setdefault(picture.client, deque()).append(picture)
        return displaced

    def refuse_if_full(self, client: str) -> None:
        """Refuse a picture that there is no room or no time for.

        There is room if another client's queue is longer by at least two: the newest picture in
        it will give way.

        Raises:
            OverloadedError: As for :meth:`add`.
            TooManyPicturesError: As for :meth:`add`.
        """
        wait = self.expected_wait_seconds()
        no_time = wait > self._bounds.deadline_seconds
        if no_time and self._waiting() >= self._bounds.decoders:
            raise OverloadedError("the service has more to do than it can in time", wait)
        if not self._is_full() or self._heaviest_client(client) is not None:
            return
        if client in self._queues and len(self._queues) > 1:
            raise TooManyPicturesError("too many of your pictures wait", wait)
        raise OverloadedError("too many pictures wait", wait)

    def remove(self, picture: P) -> None:
        """Forget a picture that waits or is decoded; nothing happens if it does neither."""
        queue = self._queues.get(picture.client, ())
        if picture in queue:
            self._queues[picture.client].remove(picture)
            self._drop_if_empty(picture.client)
        elif picture in self._ready:
            self._ready.remove(picture)

    def expected_wait_seconds(self) -> float:
        """Estimate how long it takes until all that is here is answered."""
        decode = self._decode_seconds / self._bounds.decoders
        batch = self._batch_seconds / self._bounds.parallel_batches
        decoded = len(self._ready) + sum(self._running)
        return (self._waiting() + self._decoding) * (decode + batch) + decoded * batch

    @property
    def has_work(self) -> bool:
        """Whether a picture waits to be decoded or to join a batch."""
        return bool(self._queues or self._ready)

    @property
    def is_idle(self) -> bool:
        """Whether no picture is here."""
        return not (self.has_work or self._decoding or self._running)

    # Steps.

    def next_step(self) -> Decode[P] | RunBatch[P] | None:
        """Choose what to do next, and count it as begun; None if nothing can begin now."""
        if self._queues and self._may_decode():
            self._decoding += 1
            return Decode(self._pop_next())
        if self._ready and self._may_run():
            batch = self._pop_batch()
            self._running.append(len(batch))
            return RunBatch(batch)
        return None

    def decoded(self, picture: P, seconds: float) -> None:
        """Report that a picture was decoded and is to be answered."""
        self._decoding -= 1
        self._decode_seconds += _NEWEST_WEIGHT * (seconds - self._decode_seconds)
        self._ready.append(picture)

    def decoding_failed(self) -> None:
        """Report that a picture could not be decoded, or is no longer wanted."""
        self._decoding -= 1

    def batch_done(self, size: int, seconds: float) -> None:
        """Report that a batch of ``size`` pictures took ``seconds``, well or not."""
        self._running.remove(size)
        self._batch_seconds += _NEWEST_WEIGHT * (seconds / size - self._batch_seconds)

    # The rules.

    def _waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    def _free_cores(self) -> int:
        busy = self._decoding + len(self._running) * self._bounds.cores_per_batch
        return self._bounds.cores - busy

    def _is_full(self) -> bool:
        """Tell whether no more may wait. What a free core is about to take does not count."""
        free = min(self._bounds.decoders - self._decoding, self._free_cores())
        about_to_decode = free if self._may_decode() else 0
        return self._waiting() - about_to_decode >= self._bounds.waiting

    def _heaviest_client(self, client: str) -> str | None:
        """Return who must give way to a picture of ``client`` where the queues are full.

        It is the client with the longest queue, if that stays at least as long as the other's.
        """
        heaviest = max(self._queues, key=lambda name: len(self._queues[name]))
        own = len(self._queues.get(client, ()))
        return heaviest if len(self._queues[heaviest]) > own + 1 else None

    def _may_decode(self) -> bool:
        """Tell whether the next core decodes, if it can; else it runs a batch, or waits."""
        few_ready = len(self._ready) < 2 * self._bounds.batch * self._bounds.parallel_batches
        free = self._decoding < self._bounds.decoders and self._free_cores() > 0
        return few_ready and free and not self._batch_is_due()

    def _batch_is_due(self) -> bool:
        """Tell whether what is decoded should be run, though more waits to be decoded."""
        if len(self._running) == self._bounds.parallel_batches:
            return False
        return len(self._ready) >= (self._batch_size() if self._bounds.cores_per_batch else 1)

    def _batch_size(self) -> int:
        """Return the size of the next batch: an even share of all that is here, within bounds.

        More would leave the other cores idle at the end; fewer would take longer for each.
        """
        here = self._waiting() + self._decoding + len(self._ready)
        return min(self._bounds.batch, -(-here // self._bounds.parallel_batches))

    def _may_run(self) -> bool:
        has_room = len(self._running) < self._bounds.parallel_batches
        return has_room and self._free_cores() >= self._bounds.cores_per_batch

    def _pop_next(self) -> P:
        """Take the oldest picture of the client whose turn it is; it goes to the end of them."""
        client, queue = next(iter(self._queues.items()))
        picture = queue.popleft()
        del self._queues[client]
        if queue:
            self._queues[client] = queue
        return picture

    def _pop_newest(self, client: str) -> P:
        picture = self._queues[client].pop()
        self._drop_if_empty(client)
        return picture

    def _drop_if_empty(self, client: str) -> None:
        if not self._queues[client]:
            del self._queues[client]

    def _pop_batch(self) -> list[P]:
        """Take the pictures of the next batch, oldest first, all of one recognizer."""
        recognizer = self._ready[0].recognizer
        batch = [picture for picture in self._ready if picture.recognizer is recognizer]
        batch = batch[: self._batch_size()]
        for picture in batch:
            self._ready.remove(picture)
        return batch
