"""Batches: who waits for whom, who gives way, and what is never done."""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.dispatch.batcher import Batcher, _Job
from service.inference.errors import (
    DeadlineError,
    ForkServerDiedError,
    OverloadedError,
    StoppingError,
    TooManyPicturesError,
    WorkerDiedError,
)
from service.inference.processes import Opened, Timings
from service.inference.tasks import Options, Task
from service.telemetry.metrics import Metrics


class Worker:
    """Answers with the pictures themselves, when it may; dies of some."""

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool

    async def run(self, tasks: Sequence[tuple[int, Task]], seconds: float) -> Any:
        """Answer, when it may."""
        pool, pictures = self.pool, [task.pictures[0] for _, task in tasks]
        pool.batches.append(pictures)
        pool.patience = seconds
        await pool.may_answer.wait()
        if b"poison" in pictures:
            raise WorkerDiedError("a worker has died")
        results = [
            ValueError(picture) if picture == b"damaged" else (picture, task.options.k)
            for picture, (_, task) in zip(pictures, tasks, strict=True)
        ]
        return results, Timings((0.001,) * len(tasks), 0.001, (0.001,) * len(tasks))

    def abandon(self, number: int) -> None:
        """Note it."""
        self.pool.abandoned.append(number)


class Pool:
    """Workers whose answers can be held."""

    def __init__(self, workers: int = 1, batch: int = 8) -> None:
        self.slots = workers
        self.opened = Opened("", Path(), {}, "cpu", workers, batch, 1)
        self.batches: list[list[bytes]] = []
        self.abandoned: list[int] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.closed = False
        self.patience = 0.0
        self.on_free: Callable[[], None] = lambda: None
        self._free = [Worker(self) for _ in range(workers)]

    @property
    def has_free(self) -> bool:
        """Tell."""
        return bool(self._free)

    def take(self) -> Worker:
        """Give one."""
        return self._free.pop()

    def give_back(self, worker: Worker) -> None:
        """Take it back."""
        self._free.append(worker)

    async def close(self) -> None:
        """Note it."""
        self.closed = True

    async def look_up(self, name: str, *_: object) -> bytes:
        """Answer with the name, when it may, unless it was closed meanwhile."""
        await self.may_answer.wait()
        if self.closed:
            raise ForkServerDiedError("the process that holds the gallery has ended")
        return name.encode()

    @property
    def answered(self) -> list[bytes]:
        """All pictures in the order in which they were begun."""
        return [picture for batch in self.batches for picture in batch]


def play(
    scene: Callable[[Batcher, Pool], Coroutine[Any, Any, None]],
    *,
    workers: int = 1,
    waiting: int = 64,
    batch: int = 8,
    deadline: float = 20,
) -> Pool:
    """Run a scene with a batcher of its own; return its pool."""
    pools = []

    async def run() -> None:
        """Answer, when it may."""
        pools.append(pool := Pool(workers, batch))
        batcher = Batcher(waiting, deadline, Metrics())
        batcher.switch(pool)  # type: ignore[arg-type] # it is a fake
        try:
            await scene(batcher, pool)
        finally:
            pool.may_answer.set()
            await batcher.close()

    asyncio.run(run())
    return pools[0]


async def answer(batcher: Batcher, data: bytes, k: int | None = None, client: str = "") -> Any:
    """Ask about one picture."""
    return await batcher.ask(Task((data,), Options(k)), client=client)


def ask(batcher: Batcher, *pictures: bytes, client: str = "") -> list[asyncio.Future[Any]]:
    """Ask about pictures, without waiting."""
    return [asyncio.ensure_future(answer(batcher, data, client=client)) for data in pictures]


def numbered(count: int) -> list[bytes]:
    """Word some pictures."""
    return [bytes([number]) for number in range(count)]


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_single_picture_is_answered_alone() -> None:
    """With nothing else under way nothing is waited for."""

    async def scene(batcher: Batcher, _pool: Pool) -> None:
        for _ in range(5):
            assert await answer(batcher, b"a", 3) == (b"a", 3)

    assert play(scene).batches == [[b"a"]] * 5


def test_pictures_that_come_while_a_batch_runs_are_answered_together() -> None:
    """In batches as large as they may be, each picture getting its own answer."""
    pictures = numbered(21)

    async def scene(batcher: Batcher, pool: Pool) -> None:
        pool.may_answer.clear()
        asked = ask(batcher, *pictures)
        await settle()
        pool.may_answer.set()
        assert await asyncio.gather(*asked) == [(data, None) for data in pictures]

    assert [len(batch) for batch in play(scene).batches] == [1, 8, 8, 4]


def test_workers_share_what_is_there() -> None:
    """All are busy while there is enough to do, with an even share each."""

    async def scene(batcher: Batcher, pool: Pool) -> None:
        pool.may_answer.clear()
        asked = ask(batcher, *numbered(15))
        await settle()
        pool.may_answer.set()
        await asyncio.gather(*asked)

    assert [len(batch) for batch in play(scene, workers=3).batches] == [1, 1, 1, 4, 3, 2, 1, 1, 1]


def test_past_the_deadline_the_answer_is_an_error_and_the_work_is_dropped() -> None:
    """What waits is never begun; the worker is told of what it has; it may go on a while."""

    async def scene(batcher: Batcher, pool: Pool) -> None:
        pool.may_answer.clear()
        results = await asyncio.gather(*ask(batcher, *numbered(5)), return_exceptions=True)
        assert {type(result) for result in results} == {DeadlineError}
        assert pool.abandoned == [0]
        pool.may_answer.set()
        assert await answer(batcher, b"next") == (b"next", None)

    pool = play(scene, deadline=1)
    assert pool.batches == [[b"\0"], [b"next"]]
    assert pool.patience == 2


def test_a_client_that_left_is_not_worked_for() -> None:
    """Canceling the question takes the picture out of its queue, or tells the worker."""

    async def scene(batcher: Batcher, pool: Pool) -> None:
        pool.may_answer.clear()
        asked = ask(batcher, *numbered(4))
        await settle()
        for question in asked[:3]:
            question.cancel()
        await settle()
        assert pool.abandoned == [0]
        pool.may_answer.set()
        assert await asked[3] == (b"\3", None)

    assert play(scene).answered == [b"\0", b"\3"]


def test_full_queues_refuse_and_say_when_to_come_again() -> None:
    """Of one client alone, with 503; what was taken is answered still."""

    async def scene(batcher: Batcher, pool: Pool) -> None:
        pool.may_answer.clear()
        asked = ask(batcher, *numbered(4))
        await settle()  # one is under way, three wait
        with pytest.raises(OverloadedError) as refused:
            await answer(batcher, b"one too many")
        assert refused.value.wait_seconds > 0
        with pytest.raises(OverloadedError):
            batcher.refuse_if_full("")
        pool.may_answer.set()
        assert len(await asyncio.gather(*asked)) == 4

    assert b"one too many" not in play(scene, waiting=3).answered


def test_where_queues_are_full_the_heaviest_client_gives_way() -> None:
    """Its newest picture is refused with 429; the modest client is taken."""

    async def scene(batcher: Batcher, pool: Pool) -> None:
        pool.may_answer.clear()
        many = ask(batcher, *numbered(7), client="many")
        await settle()  # one is under way, six wait
        [one] = ask(batcher, b"one", client="one")
        await settle()
        with pytest.raises(TooManyPicturesError):
            await answer(batcher, b"more", client="many")
        pool.may_answer.set()
        results = await asyncio.gather(one, *many, return_exceptions=True)
        assert results[0] == (b"one", None)
        assert [type(result) for result in results[1:]] == [tuple] * 6 + [TooManyPicturesError]

    play(scene, waiting=6)


def test_a_picture_that_kills_its_worker_harms_no_other() -> None:
    """The batch is tried again, picture by picture; the one that does it again is refused."""

    async def scene(batcher: Batcher, pool: Pool) -> None:
        pool.may_answer.clear()
        asked = ask(batcher, b"first", b"a", b"poison", b"b", b"c")
        await settle()
        pool.may_answer.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
        wrong = [type(result) for result in results if isinstance(result, Exception)]
        assert wrong == [WorkerDiedError]
        assert isinstance(results[2], WorkerDiedError)

    assert sorted(map(len, play(scene).batches)) == [1, 1, 1, 1, 1, 4]


def test_an_error_of_a_picture_is_its_own() -> None:
    """The others of its batch are answered."""

    async def scene(batcher: Batcher, pool: Pool) -> None:
        pool.may_answer.clear()
        asked = ask(batcher, b"first", b"a", b"damaged", b"b")
        await settle()
        pool.may_answer.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(results[2], ValueError)
        assert results[3] == (b"b", None)

    play(scene)


def jobs() -> set[_Job]:
    """Find all jobs that there are."""
    return {one for one in gc.get_objects() if type(one) is _Job}


def test_an_error_holds_no_picture() -> None:
    """It may be read only when many more pictures have come, and each can be very large."""

    async def scene(batcher: Batcher, _pool: Pool) -> None:
        others = jobs()  # of other tests
        gc.disable()
        try:
            errors = await asyncio.gather(*ask(batcher, b"damaged"), return_exceptions=True)
            await settle()
            assert isinstance(errors[0], ValueError)
            assert jobs() <= others
        finally:
            gc.enable()

    play(scene)


def test_a_switch_leaves_what_is_under_way_to_the_old_one_and_then_ends_it() -> None:
    """What has not begun is answered by the new one."""
    pools: list[Pool] = []

    async def scene(batcher: Batcher, old: Pool) -> None:
        old.may_answer.clear()
        before = ask(batcher, b"begun", b"waits")
        await settle()
        pools.append(new := Pool())
        batcher.switch(new)  # type: ignore[arg-type] # it is a fake
        after = ask(batcher, b"new")
        assert await asyncio.gather(before[1], *after)
        assert not old.closed
        old.may_answer.set()
        assert await before[0] == (b"begun", None)
        await settle()
        assert old.closed
        assert not new.closed

    old = play(scene)
    assert old.answered == [b"begun"]
    assert pools[0].answered == [b"waits", b"new"]
    assert pools[0].closed


def test_pictures_wait_while_nothing_can_answer() -> None:
    """A worker that is there again gets them."""

    async def scene(batcher: Batcher, pool: Pool) -> None:
        worker = pool.take()
        asked = ask(batcher, b"a")
        await settle()
        assert pool.batches == []
        pool.give_back(worker)
        pool.on_free()
        assert await asked[0] == (b"a", None)

    play(scene)


def test_it_is_idle_while_no_picture_is_here() -> None:
    """Not while one waits or is under way."""

    async def scene(batcher: Batcher, pool: Pool) -> None:
        assert batcher.is_idle
        pool.may_answer.clear()
        asked = ask(batcher, b"a")
        await settle()
        assert not batcher.is_idle
        pool.may_answer.set()
        await asked[0]
        await settle()
        assert batcher.is_idle

    play(scene)


def test_what_comes_after_the_end_is_refused() -> None:
    """What came before is answered."""

    async def scene(batcher: Batcher, pool: Pool) -> None:
        pool.may_answer.clear()
        asked = ask(batcher, b"a", b"b")
        await settle()
        closing = asyncio.ensure_future(batcher.close())
        await settle()
        with pytest.raises(StoppingError):
            await answer(batcher, b"c")
        pool.may_answer.set()
        await closing
        assert await asyncio.gather(*asked) == [(b"a", None), (b"b", None)]
        assert pool.closed

    play(scene)


def test_stages_and_batches_are_observed() -> None:
    """Once for each picture and batch."""
    metrics = Metrics()

    async def scene() -> None:
        batcher = Batcher(64, 20, metrics)
        batcher.switch(Pool())  # type: ignore[arg-type] # it is a fake
        await answer(batcher, b"a")
        await batcher.close()

    asyncio.run(scene())
    text = metrics.expose().decode()
    for stage in ("queue", "decode", "network", "search"):
        assert f'cairn_stage_seconds_count{{stage="{stage}"}} 1.0' in text
    assert "cairn_batch_pictures_sum 1.0" in text


def test_a_question_about_a_gallery_that_is_replaced_is_asked_again() -> None:
    """What the new one answers; one that has died by itself is not."""

    async def scene(batcher: Batcher, pool: Pool) -> None:
        pool.may_answer.clear()
        asked = asyncio.ensure_future(batcher.thumbnail("a", "7", None))
        await asyncio.sleep(0)
        batcher.switch(Pool())  # type: ignore[arg-type] # it is a fake
        await asyncio.sleep(0.01)
        pool.may_answer.set()
        assert await asked == b"thumbnail"
        assert pool.closed
        batcher.pool.closed = True  # type: ignore[union-attr] # it is a fake
        with pytest.raises(ForkServerDiedError):
            await batcher.thumbnail("a", "7", None)

    play(scene)


def test_a_question_about_a_gallery_has_a_deadline() -> None:
    """The disk may not answer."""

    async def scene(batcher: Batcher, pool: Pool) -> None:
        pool.may_answer.clear()
        with pytest.raises(DeadlineError):
            await batcher.thumbnail("a", "7", None)

    play(scene, deadline=0.05)
