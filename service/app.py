"""Composition root: the only place that knows every part of the service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from embedder.version import VERSION
from service.contract.api_keys import OFF, Keys
from service.http import routes
from service.http.addressing import AddressMiddleware, ProxyMiddleware
from service.http.docs_page import add_docs
from service.http.openapi import SHORT_NAMES, DocumentedAPI, add_document, operation_id
from service.http.problems import install_problems
from service.http.security_headers import SecurityHeadersMiddleware
from service.http.static_page import add_page
from service.http.unsure import UnsurePictures
from service.http.uploads import UploadBudget
from service.lifecycle.running import running
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.request_record import HEADER, RequestRecordMiddleware, with_request_ids
from service.telemetry.tracing import OFF_FOR_FASTAPI, Tracing, tracing_of_environment


def create_app(settings: Settings) -> FastAPI:
    """Make the application. Nothing is opened before its lifespan begins."""
    tracing = tracing_of_environment()
    app = _Service(
        title="Cairn",
        summary="Which landmark does this picture show?",
        version=VERSION,
        generate_unique_id_function=operation_id,
        lifespan=_lifespan(settings, tracing),
        telemetry=tracing.fastapi if tracing else OFF_FOR_FASTAPI,
        openapi_url=None,  # add_document() serves it, and FastAPI's pages load from other hosts
        redirect_slashes=False,  # AddressMiddleware takes them off
    )
    metrics = app.state.metrics = Metrics(tracing)
    app.state.settings = settings
    app.state.batcher = app.state.reloader = None
    app.state.draining = False
    app.state.uploads = UploadBudget(
        max_bytes=settings.max_bytes,
        held_bytes=settings.held_bytes,
        seconds=settings.receive_seconds,
        gauge=metrics.held_bytes,
    )
    app.state.max_pictures = settings.max_pictures
    unsure = None if settings.keep_unsure == OFF else Path(settings.keep_unsure)
    app.state.unsure = UnsurePictures(unsure)
    app.state.keys = Keys(settings.api_keys)
    app.state.admin_keys = Keys(settings.admin_keys)
    app.include_router(routes.api, prefix="/v1", tags=["v1"])
    app.include_router(routes.api, tags=[SHORT_NAMES])
    app.include_router(routes.operation, tags=["operation"])
    add_document(app)
    add_page(app, settings.max_bytes, keeps_unsure=unsure is not None)
    add_docs(app)
    install_problems(app)
    return app


class _Service(DocumentedAPI):
    """FastAPI with our middleware around all of its own.

    Added in the usual way, it would not see the answer to an unforeseen error.
    """

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap FastAPI's stack."""
        settings: Settings = self.state.settings
        operation = {route.path for route in routes.operation.routes if isinstance(route, Route)}
        inner: ASGIApp = super().build_middleware_stack()
        if settings.origins != OFF:
            inner = CORSMiddleware(
                inner,
                allow_origins=[origin.strip() for origin in settings.origins.split(",")],
                allow_methods=["GET", "POST"],
                allow_headers=["X-API-Key", HEADER, "Content-Type"],
                expose_headers=[HEADER, "Retry-After"],
            )
        inner = AddressMiddleware(inner, settings, operation)
        outer = ProxyMiddleware(SecurityHeadersMiddleware(inner), settings.trusted_proxies)
        return with_request_ids(RequestRecordMiddleware(outer, self.state.metrics))


def _lifespan(
    settings: Settings, tracing: Tracing | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, app.state.metrics) as (batcher, reloader):
            app.state.batcher, app.state.reloader = batcher, reloader
            try:
                yield
            finally:
                app.state.batcher = app.state.reloader = None
                app.state.unsure.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    return lifespan
