"""One at a time, and clients in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.dispatch.turns import Turns
from service.inference.errors import OverloadedError, TooManyPicturesError


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


class Scene:
    """Those who want a turn; each ends when it is told to."""

    def __init__(self, waiting: int = 64) -> None:
        self.turns = Turns(waiting, 20)
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    async def _want(self, name: str) -> None:
        async with self.turns.turn(name[0]):
            self.begun.append(name)
            await self._ends[name].wait()

    async def want(self, *names: str) -> list[asyncio.Task[None]]:
        """Want a turn for each name, whose first letter is the client."""
        self._ends |= {name: asyncio.Event() for name in names}
        tasks = [asyncio.ensure_future(self._want(name)) for name in names]
        await settle()
        return tasks

    async def end(self, name: str) -> None:
        """End a turn."""
        self._ends[name].set()
        await settle()


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """Run a scene."""

    async def run() -> None:
        await asyncio.wait_for(scene(), 20)

    asyncio.run(run())


def test_one_has_the_turn_and_the_next_is_another_client_s() -> None:
    """After one of each that waits, however many the first wants."""

    async def run() -> None:
        scene = Scene()
        await scene.want("a1", "a2", "a3", "a4", "b1")
        assert scene.begun == ["a1"]
        for name in ("a1", "a2", "b1", "a3", "a4"):
            await asyncio.sleep(0.06)
            await scene.end(name)
        assert scene.begun == ["a1", "a2", "b1", "a3", "a4"]
        await scene.want("c1")
        assert scene.begun[-1] == "c1"

    play(run)


@pytest.mark.parametrize("also", [False, True])
def test_who_leaves_is_not_waited_for(*, also: bool) -> None:
    """Neither in the queue nor just when its turn comes."""

    async def run() -> None:
        scene = Scene()
        first, second, third = await scene.want("a1", "b1", "c1")
        if also:
            first.cancel()
        second.cancel()
        await settle()
        await scene.end("a1")
        assert scene.begun == ["a1", "c1"]
        await scene.end("c1")
        assert third.done()
        assert second.cancelled()

    play(run)


def test_an_error_ends_a_turn() -> None:
    """And comes through."""

    async def run() -> None:
        scene = Scene()
        with pytest.raises(ValueError, match="mine"):
            async with scene.turns.turn("a"):
                raise ValueError("mine")
        await scene.want("b1")
        assert scene.begun == ["b1"]

    play(run)


def test_the_newest_of_who_wants_most_gives_way() -> None:
    """To another client; where that is alone, it is refused itself."""

    async def run() -> None:
        scene = Scene(waiting=2)
        *_, last = await scene.want("a1", "a2", "a3")
        [refused] = await scene.want("a4")
        assert isinstance(refused.exception(), OverloadedError)
        await scene.want("b1")
        assert isinstance(last.exception(), TooManyPicturesError)
        for name in ("a1", "a2", "b1"):
            await scene.end(name)
        assert scene.begun == ["a1", "a2", "b1"]

    play(run)
