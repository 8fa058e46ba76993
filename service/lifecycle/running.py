"""Starts and stops what answers pictures: recognizer, batcher, hot reload, prefetch."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from index.search.kinds import EXACT
from service.contract.schemas import Ready
from service.inference.batcher import Batcher
from service.inference.scheduler import Bounds
from service.lifecycle.prefetch import prefetch
from service.lifecycle.published import fingerprint, open_recognizer
from service.lifecycle.reload import Reloader
from service.resources.cores import divide_cores
from service.resources.memory import available_bytes, pictures_that_fit
from service.settings import Settings
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


@asynccontextmanager
async def running(settings: Settings, metrics: Metrics) -> AsyncIterator[tuple[Batcher, Reloader]]:
    """Answer pictures inside the block, warmed up, with what is published.

    Raises:
        CairnError: An artifact is missing, damaged or mismatched, or the device is not available.
    """
    seen = fingerprint(settings)
    recognizer, pictures = await asyncio.to_thread(open_recognizer, settings)
    batcher = Batcher(recognizer, _bounds(settings, recognizer.embedder.device), metrics)
    reloader = Reloader(settings, batcher, metrics, seen)
    reads_all = recognizer.gallery.manifest.kind == EXACT.name  # each query passes all vectors
    background = []
    try:
        if reads_all:
            await prefetch(batcher)
        await batcher.warm(recognizer, pictures)
        gc.collect()
        gc.freeze()  # what is there now stays: looking through it would stop every thread
        _announce(recognizer.describe(), metrics)
        del recognizer, pictures  # the batcher has it, until it switches to another
        background.append(asyncio.ensure_future(reloader.follow()))
        if not reads_all:
            background.append(asyncio.ensure_future(prefetch(batcher)))
        yield batcher, reloader
    finally:
        for task in background:
            task.cancel()
        await batcher.close()


def _bounds(settings: Settings, device: str) -> Bounds:
    cores, on_gpu = divide_cores(settings.threads), device == "cuda"
    return Bounds(
        cores=cores.total,
        decoders=max_decoders(settings),
        parallel_batches=1 if on_gpu else cores.parallel_batches,
        cores_per_batch=0 if on_gpu else cores.cores_per_batch,
        waiting=settings.waiting_pictures,
        batch=settings.batch_pictures or (16 if on_gpu else 4),
        deadline_seconds=settings.deadline_seconds,
    )


def max_decoders(settings: Settings) -> int:
    """Return how many pictures may be decoded at once: as cores and memory allow."""
    wanted, memory = divide_cores(settings.threads).total, available_bytes()
    fit = pictures_that_fit(memory, max_pixels=settings.max_pixels, held_bytes=settings.held_bytes)
    if fit < wanted:
        log.warning(
            "pictures decoded at once: %d rather than %d, since more of %d pixels do not fit in "
            "%d MiB of memory; give the service more, or lower --max-pixels",
            fit,
            wanted,
            settings.max_pixels,
            memory >> 20,
        )
    return min(wanted, fit)


def _announce(ready: Ready, metrics: Metrics) -> None:
    metrics.serve(ready)
    log.info("ready: %s", ready.model_dump_json(exclude_none=True))
    if ready.precision != ready.gallery_precision:
        log.warning(
            "queries are embedded in %s, the gallery was in %s",
            ready.precision,
            ready.gallery_precision,
        )
