"""Starts and stops what answers pictures: batcher, hot reload."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.dispatch.batcher import Batcher
from service.lifecycle.reload import Reloader
from service.settings import Settings
from service.telemetry.metrics import Metrics


@asynccontextmanager
async def running(settings: Settings, metrics: Metrics) -> AsyncIterator[tuple[Batcher, Reloader]]:
    """Answer pictures inside the block, as soon as what is published is open."""
    batcher = Batcher(settings.waiting_pictures, settings.deadline_seconds, metrics)
    reloader = Reloader(settings, batcher, metrics)
    following = asyncio.ensure_future(reloader.follow())
    try:
        yield batcher, reloader
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await batcher.close()
