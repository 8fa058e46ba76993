"""Bodies share memory: who gives way, and when."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge
from starlette.requests import Request

from service.http import uploads
from service.http.errors import RequestTimeoutError, TooSlowError
from service.http.uploads import UploadBudget, body_reader

BLOCK = 100


class Sender:
    """A client that sends a body block by block, when it is told to."""

    def __init__(self, budget: UploadBudget, client: str) -> None:
        self._budget = budget
        self._blocks: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {"type": "http", "headers": [], "app": SimpleNamespace()}
        scope["app"].state = SimpleNamespace(uploads=budget)
        self._request = Request(scope, self._blocks.get)
        self._client = client
        self.sent = asyncio.ensure_future(self._read())

    async def _read(self) -> bytes:
        with body_reader(self._request, self._client) as reader:
            return await reader.raw(self._budget.max_bytes)

    async def send(self, blocks: int = 1, *, last: bool = False) -> None:
        """Send blocks, and let the service read them."""
        for _ in range(blocks):
            body = {"type": "http.request", "body": bytes(BLOCK), "more_body": True}
            self._blocks.put_nowait(body)
        if last:
            self._blocks.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        for _ in range(10 * blocks + 10):
            await asyncio.sleep(0)

    @property
    def gave_way(self) -> bool:
        """Whether it was refused for want of memory."""
        return self.sent.done() and isinstance(self.sent.exception(), TooSlowError)


def budget(blocks: int, *, seconds: float = 60) -> UploadBudget:
    """Make a budget of so many blocks."""
    return UploadBudget(
        max_bytes=100 * BLOCK,
        held_bytes=blocks * BLOCK,
        seconds=seconds,
        gauge=Gauge("held", "", registry=CollectorRegistry()),
    )


def held(shared: UploadBudget) -> float:
    """Return what the gauge shows, in blocks."""
    [sample] = next(iter(shared.gauge.collect())).samples
    return sample.value / BLOCK


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on an event loop."""
    asyncio.run(test())


def test_of_the_client_that_holds_most_the_one_that_stalls_longest_gives_way() -> None:
    """The others go on, also those of the same client."""

    async def test() -> None:
        shared = budget(12)
        stalled, slow, other = (Sender(shared, name) for name in ("a", "a", "b"))
        await stalled.send(4)
        await slow.send(4)
        await other.send(4)
        assert held(shared) == 12
        await other.send(1)
        assert stalled.gave_way
        assert held(shared) == 9
        await slow.send(1, last=True)
        await other.send(1, last=True)
        assert len(await slow.sent) == 5 * BLOCK
        assert len(await other.sent) == 6 * BLOCK
        assert held(shared) == 0

    run(test)


def test_whoever_holds_most_and_is_slowest_gives_way_itself() -> None:
    """Though its bytes are those that came last."""

    async def test() -> None:
        shared = budget(8)
        large, small = Sender(shared, "a"), Sender(shared, "b")
        await small.send(3)
        await large.send(6)
        assert large.gave_way
        assert not small.gave_way
        assert held(shared) == 3
        await small.send(1, last=True)
        assert len(await small.sent) == 4 * BLOCK

    run(test)


def test_one_client_has_its_share_only() -> None:
    """The rest is for others, though nobody else is there."""

    async def test() -> None:
        shared = budget(8)
        senders = [Sender(shared, "a") for _ in range(4)]
        for sender in senders:
            await sender.send(2)
        assert [sender.gave_way for sender in senders] == [True, False, False, False]
        assert held(shared) == 6
        for sender in senders:
            sender.sent.cancel()

    run(test)


def test_a_body_that_has_arrived_does_not_give_way() -> None:
    """Its answer is under way: the next that comes is refused."""

    async def test() -> None:
        shared = budget(8)
        reader = uploads.BodyReader(Request({"type": "http", "headers": []}), shared, "a")
        shared.add(reader)
        shared.take(reader, 6 * BLOCK)  # nothing of it arrives any more
        late = Sender(shared, "b")
        await late.send(3)
        assert late.gave_way
        assert reader.held == 6 * BLOCK
        shared.remove(reader)
        assert held(shared) == 0

    run(test)


def test_what_gave_way_is_no_longer_in_memory() -> None:
    """Though its error is still being answered."""

    async def test() -> None:
        shared = budget(8)
        stalled, other = Sender(shared, "a"), Sender(shared, "b")
        await stalled.send(5)
        await other.send(4)
        assert stalled.gave_way
        error = stalled.sent.exception()
        assert error is not None
        frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
        found = [one for names in frames for one in names.values() if isinstance(one, list)]
        assert found == [[]]
        other.sent.cancel()

    run(test)


@pytest.mark.parametrize("pace", [0, BLOCK])
def test_a_body_that_does_not_come_on_is_refused(
    pace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one that keeps the pace may take its time."""
    monkeypatch.setattr(uploads, "PACE_BYTES", BLOCK)
    monkeypatch.setattr(uploads, "PACE_SECONDS", 0.3)

    async def test() -> None:
        sender = Sender(budget(100), "a")
        for _ in range(8):
            await sender.send(1 if pace else 0)
            await asyncio.sleep(0.1)
        assert sender.sent.done() is not bool(pace)
        if pace:
            await sender.send(1, last=True)
            assert len(await sender.sent) == 9 * BLOCK
        else:
            assert isinstance(sender.sent.exception(), RequestTimeoutError)

    run(test)


def test_a_body_that_keeps_the_pace_has_its_end_all_the_same() -> None:
    """After all the time that a request may take."""

    async def test() -> None:
        sender = Sender(budget(100, seconds=0.3), "a")
        for _ in range(6):
            await sender.send()
            await asyncio.sleep(0.1)
        assert isinstance(sender.sent.exception(), RequestTimeoutError)

    run(test)
