"""Worker processes that draw or copy pictures end with the process that started them."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

_AHEAD = 4
"""Tasks of each worker that are submitted before it is done with the first of them."""

Task = TypeVar("Task")
Answer = TypeVar("Answer")


def run_tasks(
    function: Callable[[Task], Answer], tasks: Iterable[Task], *, workers: int
) -> Generator[Answer]:
    """Yield the answers to tasks in their order; 1 worker is this process.

    Closing the iterator ends the workers after the tasks that they are at.

    Args:
        function: Of a module, or a ``partial`` of one, since it is pickled.
        tasks: What it is called with; taken a few ahead of the workers.
        workers: Processes.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        try:
            submitted = (pool.submit(function, task) for task in tasks)
            waiting = deque(islice(submitted, workers * _AHEAD))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(islice(submitted, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End a worker when its parent is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
