"""Reads a mapped gallery into memory before many requests have waited for parts of it."""

import asyncio
import logging
import time
from collections.abc import Iterator

from index.gallery.gallery import VECTORS
from service.inference.batcher import Batcher
from service.resources.memory import available_bytes

log = logging.getLogger(__name__)

_PAUSE_FACTOR = 3
"""Pause between reads in units of the time of a read, while pictures are being answered.

So a gallery of GLDv2's size that is in the page cache already is passed in three seconds under
load, and one on a slow disk leaves that disk to others.
"""


async def prefetch(batcher: Batcher) -> None:
    """Read the vectors of the gallery that serves, if they fit; stop when another one serves."""
    serving = batcher.recognizer
    if serving.embedder.device == "cuda":
        return
    serving.gallery.expect_disk(expected=True)
    if serving.gallery.manifest.files[VECTORS].bytes > available_bytes() // 2:
        return
    build_id, blocks = serving.gallery.build_id, serving.gallery.read_ahead()
    del serving  # it is freed when another one serves
    try:
        while (seconds := await asyncio.to_thread(_read_block, blocks)) is not None:
            await asyncio.sleep(0 if batcher.idle else _PAUSE_FACTOR * seconds)
            if batcher.recognizer.gallery.build_id != build_id:
                return
        batcher.recognizer.gallery.expect_disk(expected=False)
        log.info("the gallery %s is in memory", build_id)
    except OSError as error:
        log.warning("the gallery %s cannot be read ahead: %s", build_id, error)


def _read_block(blocks: Iterator[int]) -> float | None:
    """Read the next block; return the seconds it took, or None if there is none."""
    started = time.perf_counter()
    return time.perf_counter() - started if next(blocks, 0) else None
