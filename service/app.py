"""Put the service together: the only place that knows every part of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

from embedder.embedder import Embedder
from embedder.preprocess import PictureLimits
from index.gallery import Gallery
from service import errors, routes
from service.recognizer import Recognizer
from service.request_id import RequestIdMiddleware
from service.schemas import Ready
from service.settings import Settings, decoding_threads

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
    app.state.settings = settings
    app.state.recognizer = None
    app.include_router(routes.router)
    app.add_middleware(RequestIdMiddleware)
    errors.install(app)
    return app


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as opened:
            app.state.recognizer = await anyio.to_thread.run_sync(_open, settings, opened)
            try:
                yield
            finally:
                app.state.recognizer = None

    return lifespan


def _open(settings: Settings, opened: ExitStack) -> Recognizer:
    """Open what answers; ``opened`` closes it again, last opened first.

    Loading the embedder runs its golden vectors, so the first request finds everything warm.
    """
    embedder = Embedder.load(
        settings.embedder,
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
        limits=PictureLimits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels),
    )
    opened.callback(embedder.close)
    gallery = Gallery.open(
        settings.store, embedder_digest=embedder.digest, threads=settings.threads
    )
    opened.callback(gallery.close)
    recognizer = Recognizer(embedder, gallery, decoders=decoding_threads(settings))
    opened.callback(recognizer.close)
    _tell(recognizer.describe())
    return recognizer


def _tell(ready: Ready) -> None:
    log.info("ready: %s", ready.model_dump_json())
    if ready.precision != ready.gallery_precision:
        log.warning(
            "queries are embedded in %s, the gallery was in %s",
            ready.precision,
            ready.gallery_precision,
        )
