"""A batch passes all stages, and an error is the one of its picture alone."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from service.inference.errors import AbandonedError, OutOfMemoryError
from service.inference.pipeline import Pipeline
from service.inference.tasks import Options, Task


class Pixels:
    """What a decoder holds."""


class Fake:
    """A recognizer whose answers are the pictures themselves."""

    def __init__(self) -> None:
        self.embedded: list[list[bytes]] = []
        self.together_finished: list[int] = []
        self.held: list[weakref.ref[Pixels]] = []
        self.together = threading.Barrier(3, timeout=20)

    def prepare(self, task: Task, check: Callable[[], None]) -> list[bytes]:
        """Decode, or fail."""
        [data] = task.pictures
        pixels = Pixels()
        self.held.append(weakref.ref(pixels))
        check()
        if data == b"damaged":
            raise ValueError(data)
        if data == b"huge":
            raise MemoryError
        if data == b"together":
            self.together.wait()
        return [data]

    def embed(self, prepared: Sequence[bytes]) -> np.ndarray:
        """Embed, or fail."""
        self.embedded.append(list(prepared))
        if b"poison" in prepared:
            raise ArithmeticError("a query is not finite")
        return np.array(list(prepared), object)

    def finish_together(self, embedded: Sequence[tuple[Task, np.ndarray]]) -> list[Any]:
        """Answer with the pictures and what was asked for."""
        self.together_finished.append(len(embedded))
        return [self.finish_alone(*one) for one in embedded]

    def finish_alone(self, task: Task, vectors: np.ndarray) -> Any:
        """Answer likewise; several landmarks take long."""
        if task.options.landmarks:
            time.sleep(0.1)
        return vectors[0], task.options.k


def pipeline(decoders: int = 1) -> tuple[Pipeline, Fake]:
    """Make a pipeline, and give what it works with."""
    fake = Fake()
    return Pipeline(fake, decoders), fake  # type: ignore[arg-type] # it is a fake


def go_on() -> None:
    """Let a task go on."""


def perform(made: Pipeline, *pictures: bytes) -> list[Any]:
    """Answer pictures as one batch."""
    tasks = [Task((picture,), Options(number)) for number, picture in enumerate(pictures)]
    results, timings = made.perform(tasks, [go_on] * len(tasks))
    assert len(timings.decode) == len(tasks)
    return results


def test_a_batch_is_answered_in_its_order() -> None:
    """By one run of the network."""
    made, fake = pipeline()
    assert perform(made, b"a", b"b", b"c") == [(b"a", 0), (b"b", 1), (b"c", 2)]
    assert fake.embedded == [[b"a", b"b", b"c"]]


def test_pictures_that_cannot_be_decoded_are_not_embedded() -> None:
    """Each has its error in its place; where none is left, nothing is run."""
    made, fake = pipeline()
    first, *errors, last = perform(made, b"a", b"damaged", b"huge", b"b")
    assert (first, last) == ((b"a", 0), (b"b", 3))
    assert [type(error) for error in errors] == [ValueError, OutOfMemoryError]
    assert fake.embedded == [[b"a", b"b"]]
    assert len(perform(made, b"damaged")) == 1
    assert len(fake.embedded) == 1


def test_one_picture_that_breaks_a_batch_harms_no_other() -> None:
    """The batch is run again, picture by picture."""
    made, _ = pipeline()
    results = perform(made, b"a", b"poison", b"b")
    assert isinstance(results[1], ArithmeticError)
    assert [results[0], results[2]] == [(b"a", 0), (b"b", 2)]


def test_what_nobody_waits_for_is_not_answered() -> None:
    """Its check ends it, wherever it is."""
    made, fake = pipeline()

    def abandoned() -> None:
        raise AbandonedError

    results, _ = made.perform([Task((b"a",)), Task((b"b",))], [abandoned, go_on])
    assert isinstance(results[0], AbandonedError)
    assert results[1] == (b"b", None)
    assert fake.embedded == [[b"b"]]


@pytest.mark.parametrize("picture", [b"damaged", b"poison", b"huge"])
def test_an_error_holds_no_picture(picture: bytes) -> None:
    """It crosses to another process, and each picture can be very large; the log has its trace."""
    made, fake = pipeline()
    gc.disable()
    try:
        [error] = perform(made, picture)
        assert error.__traceback__ is None
        assert "Traceback" in error.__notes__[0]
        assert [held() for held in fake.held] == [None]
    finally:
        gc.enable()


def test_beside_a_gpu_many_cores_decode() -> None:
    """All pictures of a batch at the same time."""
    made, _ = pipeline(decoders=3)
    assert len(perform(made, b"together", b"together", b"together")) == 3


def test_a_costly_search_is_charged_to_the_query_that_needs_it() -> None:
    """Those that are searched for together share the time of theirs."""
    made, fake = pipeline()
    options = [Options(0), Options(1, landmarks=100), Options(2)]
    tasks = [Task((b"a",), one) for one in options]
    results, timings = made.perform(tasks, [go_on] * 3)
    assert [k for _, k in results] == [0, 1, 2]
    assert fake.together_finished == [2]
    first, costly, last = timings.search
    assert costly > 0.1
    assert first == last < 0.05
