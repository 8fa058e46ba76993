"""Put the service together: the only place that knows every part of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from index.gallery.gallery import VECTORS
from index.search.kinds import EXACT
from service.contract.api_keys import OFF, parse_keys
from service.contract.schemas import Ready
from service.http import problems as errors
from service.http import routes
from service.http.security_headers import SecurityHeadersMiddleware
from service.http.static_page import website
from service.http.uploads import Intake
from service.inference.batcher import Batcher, Bounds
from service.lifecycle.reload import Reloader, fingerprint, open_recognizer
from service.resources.cores import divide_cores
from service.resources.memory import available_bytes, pictures_that_fit
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.request_id import HEADER, RequestIdMiddleware

log = logging.getLogger(__name__)

_OTHERS_SHARE = 3
"""How many times as long as it reads a reader waits while there are pictures.

So a gallery of GLDv2's size that the system has in memory already is passed in three seconds under
load, and one on a slow disk leaves that disk to others.
"""


def create_app(settings: Settings) -> FastAPI:
    """Make the application. Nothing is opened before its lifespan begins.

    Args:
        settings: What it runs with.
    """
    app = _Described(
        title="Cairn",
        summary="Which landmark does this picture show?",
        lifespan=_lifespan(settings),
        docs_url=None,  # FastAPI's pages load scripts from other hosts
        redoc_url=None,
    )
    metrics = Metrics()
    app.state.metrics = metrics
    app.state.batcher = app.state.reloader = None
    app.state.intake = Intake(
        max_bytes=settings.max_bytes,
        held_bytes=settings.held_bytes,
        seconds=settings.receive_seconds,
        gauge=metrics.held_bytes,
    )
    app.state.max_pictures = settings.max_pictures
    app.state.keys = parse_keys(settings.api_keys)
    app.state.admin_keys = parse_keys(settings.admin_keys)
    app.include_router(routes.api, prefix="/v1", tags=["v1"])
    app.include_router(routes.api, tags=["short names of v1"])
    app.include_router(routes.operation, tags=["operation"])
    app.include_router(website(settings.max_bytes))
    if settings.origins != OFF:
        origins = [origin.strip() for origin in settings.origins.split(",")]
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["X-API-Key", HEADER, "Content-Type"],
            expose_headers=[HEADER, "Retry-After"],
        )
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(RequestIdMiddleware, metrics=metrics)
    errors.install(app)
    return app


class _Described(FastAPI):
    """FastAPI, but its document tells of no failure that the routes do not tell of.

    FastAPI adds a status 422, in a shape that is never sent, wherever a parameter is taken, even
    if that takes any text.
    """

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            for item in document["paths"].values():
                for operation in item.values():
                    if "HTTPValidationError" in str(operation["responses"].get("422")):
                        del operation["responses"]["422"]
            for shape in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(shape, None)
        return super().openapi()


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        seen = fingerprint(settings)
        recognizer, pictures = await anyio.to_thread.run_sync(open_recognizer, settings)
        bounds = _bounds(settings, recognizer.embedder.device)
        batcher = Batcher(recognizer, bounds, app.state.metrics)
        reloader = Reloader(settings, batcher, app.state.metrics, seen)
        beside = []
        at_once = recognizer.gallery.manifest.kind == EXACT.name  # each query passes all of it
        try:
            if at_once:
                await _read_ahead(batcher)
            await batcher.warm(recognizer, pictures)
            gc.collect()
            gc.freeze()  # what is there now stays: looking through it would stop every thread
            ready = recognizer.describe()
            app.state.metrics.serve(ready)
            _tell(ready)
            del recognizer, pictures, ready  # the batcher has it, until it switches to another
            beside.append(asyncio.ensure_future(reloader.follow()))
            if not at_once:
                beside.append(asyncio.ensure_future(_read_ahead(batcher)))
            app.state.batcher, app.state.reloader = batcher, reloader
            yield
        finally:
            app.state.batcher = app.state.reloader = None
            for task in beside:
                task.cancel()
            await batcher.close()

    return lifespan


async def _read_ahead(batcher: Batcher) -> None:
    """Have a gallery in memory, if it fits, before many have waited for parts of it.

    It is let go of as soon as another one answers.
    """
    serving = batcher.recognizer
    if serving.embedder.device == "cuda":
        return
    serving.gallery.expect_disk(expected=True)
    if serving.gallery.manifest.files[VECTORS].bytes > available_bytes() // 2:
        return
    build_id, blocks = serving.gallery.build_id, serving.gallery.read_ahead()
    del serving
    try:
        while (seconds := await asyncio.to_thread(_read_block, blocks)) is not None:
            await asyncio.sleep(0 if batcher.idle else _OTHERS_SHARE * seconds)
            if batcher.recognizer.gallery.build_id != build_id:
                return
        batcher.recognizer.gallery.expect_disk(expected=False)
        log.info("the gallery %s is in memory", build_id)
    except OSError as error:
        log.warning("the gallery %s cannot be read ahead: %s", build_id, error)


def _read_block(blocks: Iterator[int]) -> float | None:
    """Return how many seconds the next block took; None where there is none."""
    started = time.perf_counter()
    return time.perf_counter() - started if next(blocks, 0) else None


def _bounds(settings: Settings, device: str) -> Bounds:
    cores, on_gpu = divide_cores(settings.threads), device == "cuda"
    return Bounds(
        cores=cores.total,
        decoders=decoders(settings),
        lanes=1 if on_gpu else cores.lanes,
        each=0 if on_gpu else cores.each,
        waiting=settings.waiting_pictures,
        batch=settings.batch_pictures or (16 if on_gpu else 4),
        deadline_seconds=settings.deadline_seconds,
    )


def decoders(settings: Settings) -> int:
    """Choose how many pictures are decoded at once: as many as the cores, and the memory, allow.

    Args:
        settings: How many cores may be used, and how large a picture may be.
    """
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


def _tell(ready: Ready) -> None:
    log.info("ready: %s", ready.model_dump_json(exclude_none=True))
    if ready.precision != ready.gallery_precision:
        log.warning(
            "queries are embedded in %s, the gallery was in %s",
            ready.precision,
            ready.gallery_precision,
        )
