"""A worker process: answers batches of tasks, each from decoding to search.

On a CPU it works on one batch at a time, in one thread. A GPU has one worker, which decodes with
a thread for each core and works on two batches, so that decoding and the network overlap.

Messages to a worker: a list of numbered tasks; the number of a task that nobody waits for any
more; ``IN_MEMORY``. Messages from it: :class:`Started`, or why it is not ready; then, for each
batch, the number of its first task, its results in order, and timings.
"""

import logging
import os
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from index.gallery.gallery import Gallery
from service.inference.errors import AbandonedError
from service.inference.messages import portable, receive, send
from service.inference.pipeline import Pipeline
from service.inference.processes import IN_MEMORY, Opened, Opening, Started
from service.inference.published import open_embedder, open_gallery
from service.inference.recognizer import Recognizer
from service.inference.tasks import Task
from service.resources.memory import memory_bytes, pictures_that_fit

log = logging.getLogger(__name__)

_NICENESS = 10
"""The front process needs little time, but at once: it reads, refuses and answers."""

Numbered = list[tuple[int, Task]]


def work(
    end: socket.socket, opening: Opening, opened: Opened, gallery: Gallery, threads: int
) -> None:
    """Answer what arrives at ``end``, until its other end is closed.

    Args:
        end: Where tasks come from and results go to.
        opening: How the embedder is run.
        opened: What the fork server has open.
        gallery: The fork server's, for a CPU; a GPU's is opened here.
        threads: Of the network and of a search, on a CPU.
    """
    os.nice(_NICENESS)
    on_gpu = opened.device == "cuda"
    try:
        if on_gpu:
            gallery = open_gallery(opening, opened.device)
        else:
            gallery.threads = threads
        digest = gallery.manifest.embedder.digest
        embedder, pictures = open_embedder(opening, digest, opened.device, threads)
        recognizer = Recognizer(embedder, gallery)
        pipeline = Pipeline(recognizer, _decoders(opening) if on_gpu else 1)
        _warm(pipeline, pictures, opened.batch)
    except Exception as error:  # whatever it is, the front process reports it
        send(end, portable(error))
        return
    process = os.getpid()
    send(end, Started(process, recognizer.describe(), memory_bytes(process, "Private_Dirty")))
    _Worker(end, pipeline, opened.batches).run()


def _decoders(opening: Opening) -> int:
    """Return how many threads decode beside a GPU: one for each core, if the memory suffices."""
    fit = pictures_that_fit(opening.room_bytes, max_pixels=opening.max_pixels)
    return min(opening.cores.total, fit)


def _warm(pipeline: Pipeline, pictures: Sequence[bytes], batch: int) -> None:
    """Run batches of each size that occurs, so that no client waits for what a first one costs.

    Raises:
        CairnError: The pictures cannot be answered.
    """
    for size in range(1, batch + 1):
        tasks = [Task((pictures[number % len(pictures)],)) for number in range(size)]
        results, _ = pipeline.perform(tasks, [lambda: None] * size)
        for result in results:
            if isinstance(result, Exception):
                raise result


class _Worker:
    """Hands batches from the socket to threads, and their results back."""

    def __init__(self, end: socket.socket, pipeline: Pipeline, batches: int) -> None:
        self._end = end
        self._pipeline = pipeline
        self._wanted: set[int] = set()
        self._sending = threading.Lock()
        self._threads = ThreadPoolExecutor(batches, "batch")

    def run(self) -> None:
        while True:
            try:
                message = receive(self._end)
            except (EOFError, OSError):
                os._exit(0)  # nobody is left who could use what is under way
            if isinstance(message, int):
                self._wanted.discard(message)
            elif message == IN_MEMORY:
                self._pipeline.recognizer.gallery.expect_disk(expected=False)
            else:
                self._wanted.update(number for number, _ in message)
                self._threads.submit(self._answer, message)

    def _answer(self, numbered: Numbered) -> None:
        try:
            self._send_results(numbered)
        except BaseException:
            log.exception("a worker ends")
            os._exit(1)

    def _send_results(self, numbered: Numbered) -> None:
        numbers = [number for number, _ in numbered]
        checks = [partial(self._check, number) for number in numbers]
        results, timings = self._pipeline.perform([task for _, task in numbered], checks)
        sent = [portable(result) if isinstance(result, Exception) else result for result in results]
        self._wanted.difference_update(numbers)
        with self._sending:
            send(self._end, (numbers[0], sent, timings))

    def _check(self, number: int) -> None:
        if number not in self._wanted:
            raise AbandonedError
