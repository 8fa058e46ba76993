"""Runs a batch of tasks through all stages; an error belongs to its task alone."""

import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Prepared
from embedder.formats.source import Check
from service.inference.errors import OutOfMemoryError
from service.inference.processes import Timings
from service.inference.recognizer import Recognizer, Result
from service.inference.tasks import Task


@dataclass(slots=True)
class _Query:
    """A task on its way, and what has become of it so far."""

    task: Task
    check: Check
    prepared: list[Prepared] | None = None
    decoding: float = 0.0
    searching: float = 0.0
    result: Result | Exception | None = None


class Pipeline:
    """The stages of one recognizer.

    Args:
        recognizer: What answers.
        decoders: Threads that decode the pictures of a batch.
    """

    def __init__(self, recognizer: Recognizer, decoders: int = 1) -> None:
        self.recognizer = recognizer
        self._decode_all = ThreadPoolExecutor(decoders, "decode").map if decoders > 1 else map

    def perform(
        self, tasks: Sequence[Task], checks: Sequence[Check]
    ) -> tuple[list[Result | Exception], Timings]:
        """Answer a batch of tasks.

        Args:
            tasks: ``n`` of them.
            checks: ``n``, called between the steps of each task; what one raises ends its task.

        Returns:
            For each task in order the answer, or why there is none; and how long the stages took.
        """
        queries = list(map(_Query, tasks, checks))
        list(self._decode_all(self._decode, queries))
        decoded = [query for query in queries if query.prepared is not None]
        network = self._answer(decoded) if decoded else 0.0
        searching = tuple(query.searching for query in queries)
        timings = Timings(tuple(query.decoding for query in queries), network, searching)
        results = [query.result for query in queries]
        return [result for result in results if result is not None], timings

    def _decode(self, query: _Query) -> None:
        started = time.perf_counter()
        try:
            query.check()
            query.prepared = self.recognizer.prepare(query.task, query.check)
        except Exception as error:  # whatever it is belongs to the one who asked
            query.result = _without_frames(error)
        query.decoding = time.perf_counter() - started

    def _answer(self, queries: Sequence[_Query]) -> float:
        """Answer decoded queries; where that fails, each by itself, so that one harms no other.

        Returns:
            The seconds that the network took.
        """
        prepared = [query.prepared or [] for query in queries]
        started = time.perf_counter()
        try:
            vectors = self.recognizer.embed([one for pictures in prepared for one in pictures])
            network = time.perf_counter() - started
            ends = np.cumsum([len(pictures) for pictures in prepared])[:-1]
            self._finish(list(zip(queries, np.split(vectors, ends), strict=True)))
        except Exception as error:  # whatever it is belongs to those who asked
            if len(queries) == 1:
                queries[0].result = _without_frames(error)
        else:
            return network
        if len(queries) > 1:  # not above, where the error would hold what the batch took
            return sum(self._answer([query]) for query in queries)
        return 0.0

    def _finish(self, embedded: Sequence[tuple[_Query, NDArray[np.float32]]]) -> None:
        """Finish embedded queries: those together that can be, others each in its own time."""
        together = []
        for query, vectors in embedded:
            if query.task.needs_own_search:
                self._finish_alone(query, vectors)
            else:
                together.append((query, vectors))
        if together:
            started = time.perf_counter()
            tasks = [(query.task, vectors) for query, vectors in together]
            results = self.recognizer.finish_together(tasks)
            seconds = (time.perf_counter() - started) / len(together)
            for (query, _), result in zip(together, results, strict=True):
                query.result, query.searching = result, seconds

    def _finish_alone(self, query: _Query, vectors: NDArray[np.float32]) -> None:
        started = time.perf_counter()
        try:
            query.result = self.recognizer.finish_alone(query.task, vectors)
        except Exception as error:  # whatever it is belongs to the one who asked
            query.result = _without_frames(error)
        query.searching = time.perf_counter() - started


def _without_frames(error: Exception) -> Exception:
    """Free what the frames of an error hold, such as the picture; keep their text for the log."""
    trace = "".join(traceback.format_exception(error))
    traceback.clear_frames(error.__traceback__)
    if isinstance(error, MemoryError):
        error = OutOfMemoryError("there is no memory for this picture at the moment", 1)
    error.add_note(trace)
    return error.with_traceback(None)
