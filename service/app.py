"""Put the service together: the only place that knows every part of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

from embedder.arrays import read_npz
from embedder.embedder import Embedder
from embedder.manifest import GOLDEN
from embedder.preprocess import PictureLimits
from index.gallery import Gallery
from service import errors, routes
from service.batching import Batcher, Bounds
from service.cores import divide_cores
from service.metrics import Metrics
from service.recognizer import Recognizer
from service.request_id import RequestIdMiddleware
from service.schemas import Ready
from service.settings import Settings
from service.uploads import Intake

log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """Make the application. Nothing is opened before its lifespan begins.

    Args:
        settings: What it runs with.
    """
    app = FastAPI(
        title="Cairn",
        summary="Which landmark does this picture show?",
        lifespan=_lifespan(settings),
        docs_url=None,  # FastAPI's pages load scripts from other hosts
        redoc_url=None,
    )
    metrics = Metrics()
    app.state.metrics = metrics
    app.state.batcher = None
    app.state.intake = Intake(
        max_bytes=settings.max_bytes,
        held_bytes=settings.held_bytes,
        seconds=settings.receive_seconds,
        gauge=metrics.held_bytes,
    )
    app.include_router(routes.router)
    app.add_middleware(RequestIdMiddleware, metrics=metrics)
    errors.install(app)
    return app


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        recognizer = await anyio.to_thread.run_sync(_open, settings)
        batcher = Batcher(recognizer, _bounds(settings), app.state.metrics)
        try:
            await batcher.warm(recognizer, _golden_pictures(settings))
            app.state.metrics.serve(recognizer.describe())
            _tell(recognizer.describe())
            app.state.batcher = batcher
            yield
        finally:
            app.state.batcher = None
            await batcher.close()

    return lifespan


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        decoders=divide_cores(settings.threads).decoders,
        waiting=settings.waiting_pictures,
        batch=settings.batch_pictures,
        deadline_seconds=settings.deadline_seconds,
    )


def _open(settings: Settings) -> Recognizer:
    """Open what answers. Loading the embedder proves it on its golden vectors."""
    cores = divide_cores(settings.threads)
    embedder = Embedder.load(
        settings.embedder,
        device=settings.device,
        precision=settings.precision,
        threads=cores.network,
        limits=PictureLimits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels),
    )
    gallery = Gallery.open(settings.store, embedder_digest=embedder.digest, threads=cores.search)
    return Recognizer(embedder, gallery)


def _golden_pictures(settings: Settings) -> list[bytes]:
    """Return the pictures that an embedder brings along to be proved with."""
    golden = read_npz(settings.embedder / GOLDEN)
    count = len(golden["vectors"])
    return [golden[f"picture_{number}"].tobytes() for number in range(count)]


def _tell(ready: Ready) -> None:
    log.info("ready: %s", ready.model_dump_json(exclude_none=True))
    if ready.precision != ready.gallery_precision:
        log.warning(
            "queries are embedded in %s, the gallery was in %s",
            ready.precision,
            ready.gallery_precision,
        )
