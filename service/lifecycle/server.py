"""The server process around the application: socket, event loop, log, signals."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket

import uvicorn
from fastapi import FastAPI

from embedder.command_line import say
from service.lifecycle.header_timeout import protocol_for
from service.settings import Settings, unknown_variables
from service.telemetry.logs import set_up_logging

log = logging.getLogger(__name__)


def listen(settings: Settings) -> socket.socket:
    """Take the address, before anything slow is opened. Connections are refused until it serves.

    Raises:
        OSError: The address is in use, or is not this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def serve(app: FastAPI, settings: Settings, listener: socket.socket) -> None:
    """Serve ``app`` until SIGTERM or SIGINT, then finish what is in flight and return.

    Prints the address to stdout once requests are answered there; everything else is logged to
    stderr. The lifespan is run here rather than by uvicorn, so that a refused artifact reaches
    the caller as the error it is.

    Raises:
        CairnError: An artifact is missing, damaged or foreign, or the device is not to be had.
    """
    set_up_logging(settings.log_level, settings.log_format)
    for name in unknown_variables(os.environ):
        log.warning("the environment variable %s is no setting of this service", name)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,  # RequestIdMiddleware logs a line per request, with its id
        server_header=False,
        http=protocol_for(settings.receive_seconds),
        timeout_graceful_shutdown=settings.stop_seconds,
    )
    server = _AnnouncingServer(config)

    async def live() -> None:
        async with app.router.lifespan_context(app):
            _outlive_signals()
            _reload_on_hangup(app)
            await server.serve([listener])

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(live())


class _AnnouncingServer(uvicorn.Server):
    """Uvicorn, which also says on stdout where it answers, for scripts to read."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            say(f"http://{f'[{host}]' if ':' in host else host}:{port}")


def _outlive_signals() -> None:
    """Keep a stop signal from ending the process before the lifespan has closed everything.

    Uvicorn stops on SIGTERM and SIGINT by itself, and afterwards raises them again for whoever
    handled them before: that is this no-op.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)


def _reload_on_hangup(app: FastAPI) -> None:
    """Switch to what is published on SIGHUP, as daemons do."""
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        if app.state.reloader is not None:
            task = loop.create_task(app.state.reloader.try_reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
