"""What a thread does next, without any thread: turns, batches, bounds, and who gives way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from service.inference.errors import OverloadedError, TooManyPicturesError
from service.inference.scheduler import Bounds, Decode, RunBatch, Scheduler

GPU = Bounds(
    cores=1,
    decoders=1,
    parallel_batches=1,
    cores_per_batch=0,
    waiting=64,
    batch=4,
    deadline_seconds=20,
)
"""One core decodes beside a GPU."""

CPU = replace(GPU, cores=2, decoders=2, parallel_batches=2, cores_per_batch=1)
"""Two cores do everything."""


@dataclass(eq=False)
class Picture:
    """What the scheduler looks at."""

    name: str
    client: str = ""
    recognizer: str = "the one"


def scheduler(bounds: Bounds, *pictures: Picture) -> Scheduler[Picture]:
    """Make a scheduler in which some pictures wait."""
    made: Scheduler[Picture] = Scheduler(bounds)
    for picture in pictures:
        assert made.add(picture) is None
    return made


def numbered(count: int, client: str = "") -> list[Picture]:
    """Make pictures of one client."""
    return [Picture(f"{client}{number}", client) for number in range(count)]


def decode(made: Scheduler[Picture], seconds: float = 0.05) -> Picture:
    """Do the next step, which must be to decode."""
    step = made.next_step()
    assert isinstance(step, Decode)
    made.decoded(step.picture, seconds)
    return step.picture


def begin_batch(made: Scheduler[Picture]) -> list[Picture]:
    """Begin the next step, which must be to run a batch."""
    step = made.next_step()
    assert isinstance(step, RunBatch)
    return step.pictures


def finish(made: Scheduler[Picture], step: Decode[Picture] | RunBatch[Picture]) -> None:
    """Report that a step is done."""
    if isinstance(step, Decode):
        made.decoded(step.picture, 0.05)
    else:
        made.batch_done(len(step.pictures), 0.1)


@pytest.mark.parametrize("bounds", [GPU, CPU], ids=["GPU", "CPU"])
def test_a_single_picture_waits_for_no_other(bounds: Bounds) -> None:
    """It is decoded, then a batch of its own, then nothing is left."""
    [picture] = numbered(1)
    made = scheduler(bounds, picture)
    assert decode(made) is picture
    assert begin_batch(made) == [picture]
    assert made.next_step() is None
    assert not made.is_idle
    made.batch_done(1, 0.1)
    assert made.is_idle


def test_a_picture_is_decoded_before_a_batch_that_is_not_full_is_run() -> None:
    """A batch begins once it is full, or once nothing waits to be decoded."""
    made = scheduler(replace(CPU, cores=1, decoders=1, parallel_batches=1), *numbered(6))
    assert [decode(made).name for _ in range(4)] == ["0", "1", "2", "3"]
    assert len(begin_batch(made)) == 4
    assert made.next_step() is None  # the only core is busy
    made.batch_done(4, 0.4)
    assert [decode(made).name for _ in range(2)] == ["4", "5"]
    assert len(begin_batch(made)) == 2


def test_a_gpu_that_is_free_waits_for_no_full_batch() -> None:
    """It would idle meanwhile; what comes while it is busy is its next batch."""
    made = scheduler(GPU, *numbered(6))
    first = decode(made)
    assert begin_batch(made) == [first]
    assert [decode(made).name for _ in range(5)] == ["1", "2", "3", "4", "5"]
    assert made.next_step() is None
    made.batch_done(1, 0.1)
    assert [picture.name for picture in begin_batch(made)] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("pictures", "size"), [(1, 1), (2, 1), (3, 2), (4, 2), (6, 3), (7, 4), (20, 4)]
)
def test_parallel_batches_share_what_is_there(pictures: int, size: int) -> None:
    """So that the cores end at about the same time; never more than a batch may hold."""
    made = scheduler(CPU, *numbered(pictures))
    while isinstance(step := made.next_step(), Decode):
        made.decoded(step.picture, 0.05)
    assert isinstance(step, RunBatch)
    assert len(step.pictures) == size


def test_decoding_does_not_run_away_from_the_network() -> None:
    """Only so many pictures lie decoded as the next two batches hold."""
    made = scheduler(GPU, *numbered(20))
    decode(made)
    begin_batch(made)
    decoded = 0
    while made.next_step() is not None:
        made.decoded(Picture("decoded"), 0.05)
        decoded += 1
    assert decoded == 2 * GPU.batch


@pytest.mark.parametrize(
    ("cores", "parallel_batches", "cores_per_batch"), [(1, 1, 1), (2, 2, 1), (4, 2, 2), (6, 4, 1)]
)
def test_no_more_is_begun_than_there_are_cores(
    cores: int, parallel_batches: int, cores_per_batch: int
) -> None:
    """All are busy while there is enough to do, in whatever order work ends."""
    bounds = replace(
        CPU,
        cores=cores,
        decoders=cores,
        parallel_batches=parallel_batches,
        cores_per_batch=cores_per_batch,
        batch=1,
    )
    made, rng = scheduler(bounds, *numbered(60)), np.random.default_rng(0)
    under_way: list[Decode[Picture] | RunBatch[Picture]] = []
    for _ in range(40):
        while (step := made.next_step()) is not None:
            under_way.append(step)
        takes = [1 if isinstance(one, Decode) else cores_per_batch for one in under_way]
        assert cores - cores_per_batch < sum(takes) <= cores
        finish(made, under_way.pop(int(rng.integers(len(under_way)))))


def test_a_bound_on_decoding_leaves_the_other_cores_to_run_batches() -> None:
    """Where the memory holds one picture being decoded, another core answers meanwhile."""
    made = scheduler(replace(CPU, decoders=1), *numbered(3))
    first = made.next_step()
    assert isinstance(first, Decode)
    assert made.next_step() is None
    made.decoded(first.picture, 0.05)
    second = made.next_step()
    assert isinstance(second, Decode)
    made.decoded(second.picture, 0.05)
    assert len(begin_batch(made)) == 2
    assert isinstance(made.next_step(), Decode)
    assert made.next_step() is None


def test_clients_take_turns() -> None:
    """A modest client's picture comes second, whatever the others have waiting."""
    made = scheduler(CPU, *numbered(4, "many"), *numbered(2, "few"), *numbered(1, "one"))
    order = []
    while made.has_work:
        step = made.next_step()
        assert step is not None
        if isinstance(step, Decode):
            order.append(step.picture.name)
        finish(made, step)
    assert order == ["many0", "few0", "one0", "many1", "few1", "many2", "many3"]


def test_where_queues_are_full_the_heaviest_client_gives_way() -> None:
    """Its newest picture is displaced; a client with no more than it may be refused instead."""
    made = scheduler(replace(GPU, waiting=6), *numbered(7, "many"))  # a core is about to take one
    displaced = made.add(Picture("one", "one"))
    assert displaced is not None
    assert displaced.name == "many6"
    with pytest.raises(TooManyPicturesError) as refused:
        made.add(Picture("more", "many"))
    assert refused.value.wait_seconds > 0


def test_queues_are_shared_evenly_at_the_end() -> None:
    """A client displaces others until none has two more than itself."""
    made = scheduler(replace(GPU, waiting=6), *numbered(7, "many"))
    for number in range(3):
        assert made.add(Picture(str(number), "one")) is not None
    with pytest.raises(TooManyPicturesError):
        made.add(Picture("3", "one"))


def test_a_client_alone_that_fills_the_queues_meets_an_overloaded_service() -> None:
    """Nobody else's pictures are in its way, nor its in theirs."""
    made = scheduler(replace(GPU, waiting=3), *numbered(4))
    with pytest.raises(OverloadedError) as refused:
        made.refuse_if_full("")
    assert refused.value.wait_seconds > 0


def test_more_than_can_be_done_in_time_is_refused_at_once() -> None:
    """There is room in the queues, but a deadline would pass in them."""
    made = scheduler(replace(GPU, deadline_seconds=0.35))
    for picture in numbered(4):
        made.add(picture)
    with pytest.raises(OverloadedError):
        made.add(Picture("too late"))


def test_the_expected_wait_follows_what_work_takes() -> None:
    """It grows with slow pictures, and is spread over the decoders and batches."""
    made = scheduler(CPU, *numbered(8))
    assert made.expected_wait_seconds() == pytest.approx(8 * (0.05 / 2 + 0.05 / 2))
    before = made.expected_wait_seconds()
    decode(made, seconds=10)
    assert made.expected_wait_seconds() > before
    assert scheduler(CPU).expected_wait_seconds() == 0


def test_a_removed_picture_is_neither_decoded_nor_answered() -> None:
    """Wherever it is; a second time, nothing happens."""
    pictures = numbered(4)
    made = scheduler(CPU, *pictures)
    decoded = decode(made)
    assert decoded is pictures[0]
    for picture in (pictures[0], pictures[2], pictures[2]):
        made.remove(picture)
    assert decode(made).name == "1"
    rest = []
    while (step := made.next_step()) is not None:
        if isinstance(step, Decode):
            rest.append(step.picture.name)
        finish(made, step)
    assert rest == ["3"]
    assert made.is_idle


def test_a_picture_that_cannot_be_decoded_frees_its_core() -> None:
    """And is never part of a batch."""
    made = scheduler(GPU, *numbered(2))
    assert isinstance(made.next_step(), Decode)
    made.decoding_failed()
    good = decode(made)
    assert begin_batch(made) == [good]


def test_a_batch_holds_pictures_of_one_recognizer() -> None:
    """Those of the oldest picture come first; the others stay in their order."""
    kinds = ["old", "new", "old", "new"]
    made = scheduler(GPU)
    for number, kind in enumerate(kinds):
        made.add(Picture(f"{kind}{number}", recognizer=kind))
    first = made.next_step()
    assert isinstance(first, Decode)
    made.decoded(first.picture, 0.05)
    assert [picture.name for picture in begin_batch(made)] == ["old0"]
    for _ in range(3):
        decode(made)
    made.batch_done(1, 0.1)
    assert [picture.name for picture in begin_batch(made)] == ["new1", "new3"]
    made.batch_done(2, 0.1)
    assert [picture.name for picture in begin_batch(made)] == ["old2"]
