"""Batches: who waits for whom, who gives way, and what is never done."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from service.inference.batcher import Batcher, _Job
from service.inference.errors import (
    DeadlineError,
    OutOfMemoryError,
    OverloadedError,
    StoppingError,
    TooManyPicturesError,
)
from service.inference.scheduler import Bounds
from service.telemetry.metrics import Metrics


class Fake:
    """A recognizer whose answers are the pictures themselves, and whose stages can be held."""

    def __init__(self) -> None:
        self.decoded: list[bytes] = []
        self.batches: list[list[bytes]] = []
        self.held: list[list[bytes]] = []
        self.seconds = 0.0
        self.cores_of_a_batch = 0
        self.busy = self.most_busy = self.decoding = self.most_decoding = 0
        self._lock = threading.Lock()
        self.may_decode = threading.Event()
        self.may_answer = threading.Event()
        self.may_be_slow = threading.Event()
        self.may_decode.set()
        self.may_answer.set()

    @contextmanager
    def at_work(self, cores: int, decoding: int = 0) -> Iterator[None]:
        """Count the cores that are busy in the block."""
        with self._lock:
            self.busy += cores
            self.decoding += decoding
            self.most_busy = max(self.most_busy, self.busy)
            self.most_decoding = max(self.most_decoding, self.decoding)
        time.sleep(self.seconds)
        yield
        with self._lock:
            self.busy -= cores
            self.decoding -= decoding

    def prepare(self, data: bytes) -> bytes:
        """Decode, when it may."""
        with self.at_work(1, decoding=1):
            assert self.may_decode.wait(20)
            if data.startswith(b"slow"):
                assert self.may_be_slow.wait(20)
        self.decoded.append(data)
        if data.startswith(b"huge"):
            raise MemoryError
        return data

    @property
    def answered(self) -> list[bytes]:
        """All pictures that passed the network, in order."""
        return [data for batch in self.batches for data in batch]

    def embed(self, prepared: Sequence[bytes]) -> list[bytes]:
        """Embed, when it may."""
        self.held.append(list(prepared))
        with self.at_work(self.cores_of_a_batch):
            assert self.may_answer.wait(20)
        self.batches.append(list(prepared))
        if any(data.startswith(b"poison") for data in prepared):
            raise ValueError("a query is not finite")
        return list(prepared)

    def search(self, vectors: list[bytes], ks: Sequence[int | None]) -> list[Any]:
        """Answer with the pictures and what was asked for."""
        return list(zip(vectors, ks, strict=True))

    def answer(self, prepared: Sequence[bytes], ks: Sequence[int | None]) -> list[Any]:
        """Embed and look up."""
        return self.search(self.embed(prepared), ks)


def play(
    scene: Callable[[Batcher, Fake], Coroutine[Any, Any, None]],
    *,
    cores: int = 1,
    decoders: int | None = None,
    parallel_batches: int = 1,
    cores_per_batch: int = 0,
    waiting: int = 64,
    batch: int = 8,
    deadline: float = 20,
) -> Fake:
    """Run a scene with a batcher of its own; return its recognizer.

    By default a GPU answers, beside one core that decodes.
    """
    fake = Fake()

    async def run() -> None:
        bounds = Bounds(
            cores=cores,
            decoders=decoders or cores,
            parallel_batches=parallel_batches,
            cores_per_batch=cores_per_batch,
            waiting=waiting,
            batch=batch,
            deadline_seconds=deadline,
        )
        batcher = Batcher(fake, bounds, Metrics())  # type: ignore[arg-type] # it is a fake
        try:
            await scene(batcher, fake)
        finally:
            fake.may_decode.set()
            fake.may_answer.set()
            fake.may_be_slow.set()
            await batcher.close()

    asyncio.run(run())
    return fake


async def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about")


@pytest.mark.parametrize("cores_per_batch", [0, 1])
def test_a_single_picture_is_answered_alone(cores_per_batch: int) -> None:
    """With nothing else under way nothing is waited for."""

    async def scene(batcher: Batcher, _fake: Fake) -> None:
        for _ in range(5):
            assert await batcher.answer(b"a", 3) == (b"a", 3)

    assert play(scene, cores_per_batch=cores_per_batch).batches == [[b"a"]] * 5


def test_pictures_that_come_while_a_batch_runs_are_answered_together() -> None:
    """In batches as large as they may be, each picture getting its own answer."""
    pictures = [bytes([number]) for number in range(21)]

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_answer.clear()
        asked = [asyncio.ensure_future(batcher.answer(data, None)) for data in pictures]
        await until(lambda: len(fake.decoded) >= 16)
        fake.may_answer.set()
        assert await asyncio.gather(*asked) == [(data, None) for data in pictures]

    fake = play(scene)
    sizes = [len(batch) for batch in fake.batches]
    assert sum(sizes) == 21
    assert sizes.count(8) >= 2


@pytest.mark.parametrize(
    ("pictures", "largest"), [(1, 1), (2, 1), (3, 2), (4, 2), (6, 3), (7, 4), (20, 4)]
)
def test_lanes_share_what_is_there(pictures: int, largest: int) -> None:
    """A batch is no larger than an even share, so that the cores end at about the same time."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_decode.clear()
        fake.may_answer.clear()
        asked = [asyncio.ensure_future(batcher.answer(bytes([n]))) for n in range(pictures)]
        await asyncio.sleep(0.05)  # both threads hold the first two
        fake.may_decode.set()
        await until(lambda: len(fake.held) == min(2, pictures))
        fake.may_answer.set()
        await asyncio.gather(*asked)

    fake = play(scene, cores=2, parallel_batches=2, cores_per_batch=1, batch=4)
    assert max(map(len, fake.batches)) == largest
    assert len(fake.answered) == pictures


@pytest.mark.parametrize(
    ("cores", "parallel_batches", "cores_per_batch"), [(1, 1, 1), (2, 2, 1), (4, 2, 2), (6, 4, 1)]
)
def test_no_more_is_begun_than_there_are_cores(
    cores: int, parallel_batches: int, cores_per_batch: int
) -> None:
    """And all are busy while there is enough to do."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.cores_of_a_batch = cores_per_batch
        fake.seconds = 0.002
        await asyncio.gather(*(batcher.answer(bytes([n])) for n in range(64)))

    fake = play(
        scene,
        cores=cores,
        parallel_batches=parallel_batches,
        cores_per_batch=cores_per_batch,
        batch=4,
    )
    assert fake.most_busy == cores


def test_a_bound_on_decoding_leaves_the_other_cores_to_answer() -> None:
    """Where the memory holds one picture being decoded, another core answers meanwhile."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        first = asyncio.ensure_future(batcher.answer(b"first"))
        rest = [asyncio.ensure_future(batcher.answer(b"slow")) for _ in range(3)]
        assert await first == (b"first", None)
        assert fake.decoding == 1
        fake.may_be_slow.set()
        await asyncio.gather(*rest)

    assert (
        play(scene, cores=2, decoders=1, parallel_batches=2, cores_per_batch=1).most_decoding == 1
    )


def test_decoding_does_not_run_away_from_the_network() -> None:
    """Only so many pictures lie ready as the next two batches hold."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_answer.clear()
        asked = [asyncio.ensure_future(batcher.answer(bytes([n]))) for n in range(40)]
        await until(lambda: len(fake.decoded) >= 16)
        await asyncio.sleep(0.1)
        assert len(fake.decoded) <= 3 * 8
        fake.may_answer.set()
        await asyncio.gather(*asked)

    play(scene)


def test_past_the_deadline_the_answer_is_an_error_and_the_work_is_dropped() -> None:
    """What nobody waits for any more is not decoded."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_decode.clear()
        asked = [asyncio.ensure_future(batcher.answer(bytes([n]))) for n in range(5)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(result) for result in results} == {DeadlineError}
        fake.may_decode.set()
        await until(lambda: len(fake.decoded) == 1)
        assert await batcher.answer(b"next") == (b"next", None)

    fake = play(scene, deadline=1)
    assert fake.decoded == [b"\0", b"next"]
    assert fake.batches == [[b"next"]]


def test_a_client_that_left_is_not_worked_for() -> None:
    """Canceling the question takes the picture out of its queue."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_decode.clear()
        asked = [asyncio.ensure_future(batcher.answer(bytes([n]))) for n in range(4)]
        await asyncio.sleep(0.05)
        for question in asked[1:3]:
            question.cancel()
        await asyncio.sleep(0)
        fake.may_decode.set()
        await asyncio.gather(*asked, return_exceptions=True)

    assert play(scene).decoded == [b"\0", b"\3"]


def test_pictures_whose_clients_left_hold_up_nobody() -> None:
    """Even if they were decoded already, and room for one more is only where they were."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_answer.clear()
        asked = [asyncio.ensure_future(batcher.answer(bytes([n]))) for n in range(4)]
        await until(lambda: len(fake.decoded) == 3 and len(fake.held) == 1)
        for question in asked[1:3]:
            question.cancel()
        await asyncio.sleep(0)
        fake.may_answer.set()
        assert await asyncio.wait_for(asked[3], 20) == (b"\3", None)

    assert play(scene, batch=1).answered == [b"\0", b"\3"]


def test_full_queues_refuse_and_say_when_to_come_again() -> None:
    """Of one client alone, with 503; what was taken is answered still."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_decode.clear()
        asked = [asyncio.ensure_future(batcher.answer(bytes([n]))) for n in range(4)]
        await asyncio.sleep(0.05)  # one is being decoded, three wait
        with pytest.raises(OverloadedError) as refused:
            await batcher.answer(b"one too many")
        assert refused.value.wait_seconds > 0
        fake.may_decode.set()
        assert len(await asyncio.gather(*asked)) == 4

    assert b"one too many" not in play(scene, waiting=3).decoded


def test_more_than_can_be_done_in_time_is_refused_at_once() -> None:
    """There is room in the queues, but a deadline would pass in them."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_decode.clear()
        asked = [asyncio.ensure_future(batcher.answer(bytes([n]))) for n in range(60)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        kinds = [type(result) for result in results]
        assert kinds.count(OverloadedError) > 30
        assert set(kinds) == {OverloadedError, DeadlineError}

    play(scene, deadline=0.5)


def test_clients_take_turns() -> None:
    """One picture of the second client comes before the twentieth of the first."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_decode.clear()
        many = [asyncio.ensure_future(batcher.answer(b"many", client="many")) for _ in range(20)]
        await asyncio.sleep(0.05)
        one = asyncio.ensure_future(batcher.answer(b"one", client="one"))
        await asyncio.sleep(0.05)
        fake.may_decode.set()
        await asyncio.gather(one, *many)

    assert play(scene).decoded.index(b"one") <= 2


def test_where_queues_are_full_the_heaviest_client_gives_way() -> None:
    """Its newest picture is refused with 429; the modest client is taken."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_decode.clear()
        many = [asyncio.ensure_future(batcher.answer(bytes([n]), client="many")) for n in range(7)]
        await asyncio.sleep(0.05)  # one is being decoded, six wait
        one = asyncio.ensure_future(batcher.answer(b"one", client="one"))
        await asyncio.sleep(0.05)
        with pytest.raises(TooManyPicturesError):
            await batcher.answer(b"more", client="many")
        fake.may_decode.set()
        results = await asyncio.gather(one, *many, return_exceptions=True)
        assert results[0] == (b"one", None)
        assert [type(result) for result in results[1:]] == [tuple] * 6 + [TooManyPicturesError]

    play(scene, waiting=6)


def test_one_picture_that_breaks_a_batch_harms_no_other() -> None:
    """The batch is run again, picture by picture."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_answer.clear()
        pictures = [b"first", b"a", b"poison", b"b", b"c"]
        asked = [asyncio.ensure_future(batcher.answer(data)) for data in pictures]
        await until(lambda: len(fake.decoded) == 5)
        fake.may_answer.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
        wrong = [type(result) for result in results if isinstance(result, Exception)]
        assert wrong == [ValueError]
        assert isinstance(results[2], ValueError)

    play(scene)


def test_no_memory_for_a_picture_is_an_error_of_that_picture() -> None:
    """And one that may pass, so the client is told to come again."""

    async def scene(batcher: Batcher, _fake: Fake) -> None:
        with pytest.raises(OutOfMemoryError):
            await batcher.answer(b"huge")
        assert await batcher.answer(b"small") == (b"small", None)

    play(scene)


def jobs() -> set[_Job]:
    """Find all jobs that there are."""
    return {one for one in gc.get_objects() if type(one) is _Job}


class Pixels:
    """What a decoder holds when it fails."""


def test_an_error_holds_no_picture() -> None:
    """It may be read only when many more pictures have come, and each can be very large."""
    held: list[weakref.ref[Pixels]] = []

    class Failing(Fake):
        def prepare(self, data: bytes) -> bytes:
            pixels = Pixels()
            held.append(weakref.ref(pixels))
            raise ValueError(data)

    async def scene(batcher: Batcher, _fake: Fake) -> None:
        batcher.switch(Failing())  # type: ignore[arg-type] # it is a fake
        others = jobs()  # of other tests
        gc.disable()
        try:
            for _ in range(3):
                with pytest.raises(ValueError, match="damaged"):
                    await batcher.answer(b"damaged")
            await until(lambda: [pixels() for pixels in held] == [None] * 3)
            await until(lambda: jobs() <= others)
        finally:
            gc.enable()

    play(scene)


def test_many_cores_decode_at_the_same_time() -> None:
    """Also where batches are small."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_decode.clear()
        asked = [asyncio.ensure_future(batcher.answer(bytes([n]))) for n in range(20)]
        await until(lambda: fake.decoding == 16)
        fake.may_decode.set()
        await asyncio.gather(*asked)

    play(scene, cores=16, parallel_batches=4, cores_per_batch=4, batch=4)


def test_a_switch_leaves_what_is_under_way_to_the_old_one_and_then_frees_it() -> None:
    """No batch mixes the two."""
    new = Fake()

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_answer.clear()
        before = [asyncio.ensure_future(batcher.answer(b"old")) for _ in range(3)]
        await until(lambda: len(fake.decoded) == 3)
        batcher.switch(new)  # type: ignore[arg-type] # it is a fake
        after = [asyncio.ensure_future(batcher.answer(b"new")) for _ in range(3)]
        await until(lambda: len(new.decoded) == 3)
        fake.may_answer.set()
        await asyncio.gather(*before, *after)

    old = play(scene)
    assert old.answered == [b"old"] * 3
    assert new.answered == [b"new"] * 3
    freed = weakref.ref(old)
    del old
    gc.collect()
    assert freed() is None


def test_warming_runs_every_size_of_a_batch() -> None:
    """One engine compiles for each, and no client should wait for that."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        await batcher.warm(fake, [b"golden"])  # type: ignore[arg-type] # it is a fake

    fake = play(scene, cores=3)
    assert [len(batch) for batch in fake.batches] == [1, 2, 3, 4, 8]
    assert len(fake.decoded) == 1


def test_it_is_idle_while_no_picture_is_here() -> None:
    """Not while one waits, is decoded or passes the network."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        assert batcher.idle
        fake.may_decode.clear()
        fake.may_answer.clear()
        asked = asyncio.ensure_future(batcher.answer(b"a"))
        await until(lambda: fake.decoding == 1)
        assert not batcher.idle
        fake.may_decode.set()
        await until(lambda: bool(fake.held))
        assert not batcher.idle
        fake.may_answer.set()
        await asked
        await until(lambda: batcher.idle)  # a moment later

    play(scene)


def test_what_comes_after_the_end_is_refused() -> None:
    """What came before is answered."""

    async def scene(batcher: Batcher, fake: Fake) -> None:
        fake.may_answer.clear()
        asked = asyncio.ensure_future(batcher.answer(b"a"))
        await asyncio.sleep(0.05)
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0.05)
        with pytest.raises(StoppingError):
            await batcher.answer(b"b")
        fake.may_answer.set()
        await closing
        assert await asked == (b"a", None)

    play(scene)
