"""The processes of a published pair: as many as fit, and none that stays."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from embedder.embedder import Embedder
from index.building.build import build
from index.gallery.store import Store
from photographs import open_data
from service.dispatch.pool import Pool
from service.inference.processes import Opening
from service.inference.tasks import Task
from service.inference.worker import _decoders
from service.resources.cores import Cores
from service.resources.memory import BYTES_PER_PIXEL
from tests.factories import photographs, tiny_embedder, view_bytes

PLENTY = 64 << 30


@pytest.fixture(scope="module")
def opening(tmp_path_factory: pytest.TempPathFactory) -> Opening:
    """Make a pair, and say how to open it: by three workers, if there is room for them."""
    directory = tmp_path_factory.mktemp("pair")
    embedder, store = tiny_embedder(directory / "embedder"), Store(directory / "store")
    opened = Embedder.load(embedder)
    build(store, opened, open_data(photographs(directory / "photographs")))
    opened.close()
    return Opening(
        store=store.path,
        embedder=embedder,
        build=None,
        device="cpu",
        precision="auto",
        cores=Cores(3, 3),
        room_bytes=PLENTY,
        batch=0,
        max_bytes=1 << 20,
        max_pixels=1_000_000,
        log_level="info",
        log_format="text",
    )


def children(process: int) -> list[int]:
    """Find the processes that a process has started."""
    try:
        listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in listed.split()]


@pytest.fixture(autouse=True)
def others() -> set[int]:
    """Find the processes that earlier tests of this process have left, such as torch's own."""
    _OTHERS.update(children(os.getpid()))
    return _OTHERS


_OTHERS: set[int] = set()


def fork_servers() -> list[int]:
    """Find the fork servers, one for each pool."""
    return [process for process in children(os.getpid()) if process not in _OTHERS]


def descendants() -> set[int]:
    """Find the fork server and its workers."""
    servers = fork_servers()
    return {*servers, *(worker for server in servers for worker in children(server))}


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def opened(opening: Opening, then: Callable[[Pool], Awaitable[None]]) -> set[int]:
    """Do something with a pool; return the processes that it had."""
    pool = await Pool.open(opening)
    try:
        had = descendants()
        await then(pool)
    finally:
        await pool.close()
    return had


async def answers(pool: Pool) -> None:
    """Have every worker answer a picture."""
    workers = [pool.take() for _ in range(pool.slots)]
    assert not pool.has_free
    asked = [
        worker.run([(n, Task((view_bytes(1, 0),)))], 60) for n, worker in enumerate(set(workers))
    ]
    for [answer], _ in await asyncio.gather(*asked):
        assert answer.landmark_id == "landmark-1"


def test_memory_bounds_the_workers_and_the_log_says_so(
    opening: Opening, caplog: pytest.LogCaptureFixture
) -> None:
    """With both numbers and what to do; where it suffices, the cores decide in silence."""

    async def three(pool: Pool) -> None:
        assert (pool.slots, len(descendants())) == (3, 4)
        await answers(pool)

    async def one(pool: Pool) -> None:
        await until(lambda: len(descendants()) == 2)
        assert pool.slots == 1
        await answers(pool)

    with caplog.at_level(logging.WARNING):
        asyncio.run(opened(opening, three))
        assert caplog.messages == []
        asyncio.run(opened(replace(opening, room_bytes=0), one))
    [words] = caplog.messages
    assert "workers: 1 rather than 3" in words
    assert "--max-pixels" in words


@pytest.mark.parametrize(
    ("cores", "room", "threads"), [(5, PLENTY, [1, 2, 2]), (5, 0, [5]), (3, PLENTY, [1, 1, 1])]
)
def test_no_core_is_left_over(opening: Opening, cores: int, room: int, threads: list[int]) -> None:
    """However few workers there are for them."""

    async def shared(pool: Pool) -> None:
        workers = {pool.take() for _ in range(pool.slots)}
        assert sorted(worker.threads for worker in workers) == threads

    shares = replace(opening, cores=Cores(cores, 3), room_bytes=room)
    asyncio.run(opened(shares, shared))


def test_a_worker_counts_with_what_it_takes_itself(
    opening: Opening, caplog: pytest.LogCaptureFixture
) -> None:
    """Where three pictures would fit, but not three workers with their networks."""

    async def fewer(pool: Pool) -> None:
        assert pool.slots < 3
        await answers(pool)

    with caplog.at_level(logging.WARNING):
        asyncio.run(opened(replace(opening, room_bytes=3 * 22_000_000), fewer))
    assert "rather than 3" in caplog.text


def test_beside_a_gpu_memory_bounds_what_is_decoded_at_once(opening: Opening) -> None:
    """There is one worker, which decodes on all cores if it can."""
    large = replace(opening, cores=Cores(16, 16))
    assert _decoders(large) == 16
    assert _decoders(replace(large, room_bytes=5 * BYTES_PER_PIXEL * opening.max_pixels)) == 5


@pytest.mark.parametrize("workers", [0, 1])
def test_an_opening_that_is_cancelled_leaves_no_process(opening: Opening, workers: int) -> None:
    """Neither while the pair is opened nor while workers start."""

    async def scene() -> None:
        task = asyncio.ensure_future(Pool.open(opening))
        await until(lambda: len(descendants()) > workers)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert descendants() == set()

    before = len(list(Path("/proc/self/fd").iterdir()))
    asyncio.run(scene())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_worker_that_hangs_ends_with_its_pool(opening: Opening) -> None:
    """Whatever it does; and all are collected, so that none stays in the table of processes."""

    async def hangs(_: Pool) -> None:
        [server] = fork_servers()
        os.kill(children(server)[0], signal.SIGSTOP)

    for process in asyncio.run(opened(opening, hangs)):
        assert not Path(f"/proc/{process}").exists()


def test_a_question_that_nobody_waits_for_does_not_answer_the_next(opening: Opening) -> None:
    """Its answer comes first, and is left out."""

    async def asks(pool: Pool) -> None:
        [server] = fork_servers()
        os.kill(server, signal.SIGSTOP)
        left = asyncio.ensure_future(pool.look_up("landmarks", 0, 1, "landmark-1"))
        await asyncio.sleep(0.1)
        left.cancel()
        asked = asyncio.ensure_future(pool.look_up("landmarks", 0, 1, "landmark-2"))
        await asyncio.sleep(0.1)
        os.kill(server, signal.SIGCONT)
        found = json.loads(await asked)
        assert [one["landmark_id"] for one in found["landmarks"]] == ["landmark-2"]
        assert left.cancelled()

    asyncio.run(opened(opening, asks))
