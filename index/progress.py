"""Progress bars of long work on a gallery, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from numpy.typing import NDArray

if TYPE_CHECKING:
    from tqdm import tqdm

_TERMINAL_SECONDS, _LOG_SECONDS = 0.2, 30.0


def progress_bar(total: int, *, done: int = 0, what: str, unit: str = "picture") -> tqdm[NoReturn]:
    """Return a progress bar on stderr; rarely redrawn where that is no terminal."""
    from tqdm import tqdm  # a reader of a gallery needs none

    seconds = _TERMINAL_SECONDS if sys.stderr.isatty() else _LOG_SECONDS
    bar: tqdm[NoReturn] = tqdm(
        total=total,
        initial=done,
        desc=what,
        unit=unit,
        unit_scale=unit == "B",
        file=sys.stderr,
        mininterval=seconds,
    )
    return bar


def watch_rows(blocks: Iterable[NDArray[Any]], rows: int, what: str) -> Iterator[NDArray[Any]]:
    """Pass blocks of rows on, with a progress bar of ``rows`` that is titled ``what``."""
    with progress_bar(rows, what=what, unit="row") as bar:
        for block in blocks:
            yield block
            bar.update(len(block))
