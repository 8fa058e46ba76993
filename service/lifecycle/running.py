"""Starts and stops what answers pictures: batcher, hot reload."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from service.dispatch.batcher import Batcher
from service.lifecycle.reload import Reloader
from service.resources.cores import Cores, divide_cores
from service.resources.memory import available_bytes, pictures_that_fit
from service.settings import Settings
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


@asynccontextmanager
async def running(settings: Settings, metrics: Metrics) -> AsyncIterator[tuple[Batcher, Reloader]]:
    """Answer pictures inside the block, as soon as what is published is open."""
    batcher = Batcher(settings.waiting_pictures, settings.deadline_seconds, metrics)
    reloader = Reloader(settings, cores_that_fit(settings), batcher, metrics)
    following = asyncio.ensure_future(reloader.follow())
    try:
        yield batcher, reloader
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await batcher.close()


def cores_that_fit(settings: Settings) -> Cores:
    """Divide the cores among as many workers as can decode at once in the memory there is."""
    cores, memory = divide_cores(settings.threads), available_bytes()
    fit = pictures_that_fit(memory, max_pixels=settings.max_pixels, held_bytes=settings.held_bytes)
    if fit >= cores.workers:
        return cores
    log.warning(
        "pictures decoded at once: %d rather than %d, since more of %d pixels do not fit in "
        "%d MiB of memory; give the service more, or lower --max-pixels",
        fit,
        cores.workers,
        settings.max_pixels,
        memory >> 20,
    )
    return replace(cores, workers=fit, threads_per_worker=cores.total // fit)
