"""What a free worker answers next, without any worker: turns, batches, bounds, who gives way."""

from dataclasses import dataclass, replace

import pytest

from service.dispatch.scheduler import Bounds, Scheduler
from service.inference.errors import OverloadedError, TooManyPicturesError

ONE = Bounds(slots=1, waiting=64, batch=4, deadline_seconds=20)
"""One worker, which has one batch at a time."""

TWO = replace(ONE, slots=2)
"""Two of them."""


@dataclass(eq=False)
class Picture:
    """What the scheduler looks at."""

    name: str
    client: str = ""
    size: int = 1
    alone: bool = False


def scheduler(bounds: Bounds, *pictures: Picture) -> Scheduler[Picture]:
    """Make a scheduler in which some pictures wait."""
    made: Scheduler[Picture] = Scheduler(bounds)
    for picture in pictures:
        assert made.add(picture) is None
    return made


def numbered(count: int, client: str = "") -> list[Picture]:
    """Make pictures of one client."""
    return [Picture(f"{client}{number}", client) for number in range(count)]


def names(batch: list[Picture]) -> list[str]:
    """Name the pictures of a batch."""
    return [picture.name for picture in batch]


def finish(made: Scheduler[Picture], batch: list[Picture], seconds: float = 0.05) -> None:
    """Report that a batch has ended, each of whose pictures took ``seconds``."""
    made.batch_done(batch, [seconds] * len(batch))


def test_a_single_picture_waits_for_no_other() -> None:
    """It is a batch of its own, then nothing is left."""
    [picture] = numbered(1)
    made = scheduler(TWO, picture)
    batch = made.next_batch()
    assert batch == [picture]
    assert made.next_batch() == []
    assert not made.is_idle
    finish(made, batch)
    assert made.is_idle


@pytest.mark.parametrize(
    ("pictures", "size"), [(1, 1), (2, 1), (3, 2), (4, 2), (6, 3), (7, 4), (20, 4)]
)
def test_workers_share_what_is_there(pictures: int, size: int) -> None:
    """So that they end at about the same time; never more than a batch may hold."""
    assert len(scheduler(TWO, *numbered(pictures)).next_batch()) == size


def test_clients_take_turns() -> None:
    """A modest client's picture comes second, whatever the others have waiting."""
    made = scheduler(
        replace(TWO, batch=1), *numbered(4, "many"), *numbered(2, "few"), *numbered(1, "one")
    )
    order = []
    while batch := made.next_batch():
        order += names(batch)
        finish(made, batch)
    assert order == ["many0", "few0", "one0", "many1", "few1", "many2", "many3"]


def test_a_turn_costs_what_the_picture_took() -> None:
    """A client of slow pictures waits until others have had as much of the workers' time."""
    made = scheduler(replace(ONE, batch=1), *numbered(3, "slow"), *numbered(9, "quick"))
    order = []
    while batch := made.next_batch():
        order += names(batch)
        finish(made, batch, seconds=1.0 if batch[0].client == "slow" else 0.05)
    assert order[:2] == ["slow0", "quick0"]
    assert order[2:10] == [f"quick{number}" for number in range(1, 9)]


def test_a_client_that_slept_has_no_turns_left_over() -> None:
    """It does not come before all others for as long as it was away."""
    made = scheduler(replace(ONE, batch=1), *numbered(30, "busy"))
    for _ in range(20):
        finish(made, made.next_batch())
    for picture in numbered(5, "late"):
        made.add(picture)
    order = [made.next_batch()[0].client for _ in range(6)]
    assert order.count("late") in (3, 4)


def test_an_idle_service_forgets_what_was_used() -> None:
    """Slow pictures of before cost nobody a turn."""
    made = scheduler(replace(ONE, batch=1), *numbered(1, "slow"))
    finish(made, made.next_batch(), seconds=60)
    for client in ("slow", "quick"):
        made.add(Picture(client, client))
    assert names(made.next_batch()) == ["slow"]


def test_newcomers_do_not_starve_who_waits() -> None:
    """However many there are, and though none has used anything."""
    made = scheduler(replace(ONE, batch=1), *numbered(5, "steady"))
    order = []
    for number in range(40):
        made.add(Picture(f"new{number}", f"new{number}"))
        batch = made.next_batch()
        order += names(batch)
        finish(made, batch)
    assert order.index("steady4") < 40


def test_clients_that_come_and_go_take_no_memory() -> None:
    """While the service is never idle."""
    made = scheduler(replace(ONE, batch=1), *numbered(2, "steady"))
    for number in range(5000):
        made.add(Picture("", str(number)))
        finish(made, made.next_batch())
    assert len(made._used) < 1100


def test_where_queues_are_full_the_heaviest_client_gives_way() -> None:
    """Its newest picture is displaced; a client with no more than it may be refused instead."""
    made = scheduler(replace(ONE, waiting=6), *numbered(7, "many"))  # one is about to be taken
    displaced = made.add(Picture("one", "one"))
    assert displaced is not None
    assert displaced.name == "many6"
    with pytest.raises(TooManyPicturesError) as refused:
        made.add(Picture("more", "many"))
    assert refused.value.wait_seconds > 0


def test_queues_are_shared_evenly_at_the_end() -> None:
    """A client displaces others until none has two more than itself."""
    made = scheduler(replace(ONE, waiting=6), *numbered(7, "many"))
    for number in range(3):
        assert made.add(Picture(str(number), "one")) is not None
    with pytest.raises(TooManyPicturesError):
        made.add(Picture("3", "one"))


def test_a_client_alone_that_fills_the_queues_meets_an_overloaded_service() -> None:
    """Nobody else's pictures are in its way, nor its in theirs."""
    made = scheduler(replace(ONE, waiting=3), *numbered(4))
    with pytest.raises(OverloadedError) as refused:
        made.refuse_if_full("")
    assert refused.value.wait_seconds > 0


def test_more_than_can_be_done_in_time_is_refused_at_once() -> None:
    """There is room in the queues, but a deadline would pass in them."""
    made = scheduler(replace(ONE, deadline_seconds=0.18))
    for picture in numbered(4):
        made.add(picture)
    with pytest.raises(OverloadedError):
        made.add(Picture("too late"))


def test_the_expected_wait_follows_what_work_takes() -> None:
    """It grows with slow pictures, and is spread over the workers."""
    made = scheduler(TWO, *numbered(8))
    before = made.expected_wait_seconds()
    assert before == pytest.approx(8 * 0.05 / 2)
    finish(made, made.next_batch(), seconds=10)
    assert made.expected_wait_seconds() > before
    assert scheduler(TWO).expected_wait_seconds() == 0


def test_what_is_under_way_counts_in_the_wait() -> None:
    """A picture that comes now waits for it too."""
    made = scheduler(ONE, *numbered(4))
    made.next_batch()
    assert made.expected_wait_seconds() == pytest.approx(4 * 0.05)


def test_a_removed_picture_is_in_no_batch() -> None:
    """A second time, and once it is under way, nothing happens."""
    pictures = numbered(4)
    made = scheduler(replace(ONE, batch=1), *pictures)
    first = made.next_batch()
    for picture in (pictures[0], pictures[2], pictures[2]):
        made.remove(picture)
    finish(made, first)
    rest = []
    while batch := made.next_batch():
        rest += names(batch)
        finish(made, batch)
    assert rest == ["1", "3"]
    assert made.is_idle


def test_several_pictures_of_one_query_count_as_what_they_are() -> None:
    """They join one batch together, which may then be larger than others."""
    made = scheduler(ONE, Picture("six", size=6), *numbered(3))
    assert names(made.next_batch()) == ["six"]
    assert names(made.next_batch()) == ["0", "1", "2"]


def test_a_picture_that_is_tried_again_is_alone_and_first() -> None:
    """It harms no other a second time."""
    made = scheduler(ONE, *numbered(4))
    batch = made.next_batch()
    finish(made, batch)
    for name in ("next0", "next1"):
        made.add(Picture(name))
    for picture in reversed(batch[:2]):
        picture.alone = True
        made.retry(picture)
    got = [made.next_batch() for _ in range(3)]
    assert [names(batch) for batch in got] == [["0"], ["1"], ["next0", "next1"]]


def test_batches_of_a_larger_pool_leave_room_in_a_smaller_one() -> None:
    """They are still under way when it takes over, and are more than it may have."""
    made = scheduler(replace(ONE, slots=3, waiting=1))
    batches = []
    for picture in numbered(3):
        made.add(picture)
        batches.append(made.next_batch())
    made.bounds = replace(ONE, waiting=1)
    made.refuse_if_full("")
    assert made.add(Picture("waits")) is None
    for batch in batches:
        finish(made, batch)
    assert names(made.next_batch()) == ["waits"]
