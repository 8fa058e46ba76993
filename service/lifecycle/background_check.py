"""Checks every byte of what serves, beside it; so the files get into memory, too.

Opening compares the size of a large file only. One that is mapped may be damaged, and the first
requests would wait for parts of it again and again until all of it is in memory.
"""

import asyncio
import logging
import time
from collections.abc import Iterator

from embedder.artifacts.files import LARGE_BYTES, check_blocks
from service.dispatch.batcher import Batcher
from service.dispatch.pool import Pool
from service.resources.memory import available_bytes

log = logging.getLogger(__name__)

_PAUSE_FACTOR = 3
"""Pause between reads in units of the time of a read, while pictures are being answered."""


async def check_in_background(pool: Pool, batcher: Batcher) -> None:
    """Check the large files of a pool block by block; stop when another one serves.

    Raises:
        ArtifactMissingError: A file is not there any more.
        ArtifactDamagedError: A block is not what it was when it was written.
    """
    opened = pool.opened
    large = {name: file for name, file in opened.files.items() if file.bytes >= LARGE_BYTES}
    try:
        for name, file in large.items():
            blocks = check_blocks(opened.directory / name, file)
            while (seconds := await asyncio.to_thread(_check_block, blocks)) is not None:
                await asyncio.sleep(0 if batcher.is_idle else _PAUSE_FACTOR * seconds)
                if batcher.pool is not pool:
                    return
    except OSError as error:
        log.warning("the gallery %s cannot be read: %s", opened.build, error)
        return
    log.info("every byte of the gallery %s is what it should be", opened.build)
    if sum(file.bytes for file in large.values()) <= available_bytes() // 2:
        pool.expect_memory()


def _check_block(blocks: Iterator[int]) -> float | None:
    """Check the next block; return the seconds it took, or None if there is none."""
    started = time.perf_counter()
    return time.perf_counter() - started if next(blocks, 0) else None
