"""The process around the application: socket, event loop, log, signals."""

import asyncio
import logging
import os
import signal
import socket

import uvicorn
from fastapi import FastAPI

from embedder.command_line import print_line
from service.lifecycle.header_timeout import protocol_with_header_timeout
from service.settings import Settings, unknown_variables
from service.telemetry.logs import set_up_logging

log = logging.getLogger(__name__)


def listen(settings: Settings) -> socket.socket:
    """Bind the address, before anything slow is opened. Connections are refused until it serves.

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
    stderr. The lifespan runs here rather than in uvicorn, which would hide its errors from the
    caller.

    Raises:
        CairnError: An artifact is missing, damaged or mismatched, or the device is not available.
    """
    set_up_logging(settings.log_level, settings.log_format)
    for name in unknown_variables(os.environ):
        log.warning("the environment variable %s is not a setting of this service", name)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,  # RequestRecordMiddleware logs each request
        server_header=False,
        http=protocol_with_header_timeout(settings.receive_seconds),
        timeout_graceful_shutdown=settings.stop_seconds,
    )
    server = _AnnouncingServer(config)

    async def run() -> None:
        async with app.router.lifespan_context(app):
            _ignore_stop_signals()
            _reload_on_hangup(app)
            await server.serve([listener])

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())


class _AnnouncingServer(uvicorn.Server):
    """Uvicorn, which also prints its address to stdout, for scripts to read."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            print_line(f"http://{f'[{host}]' if ':' in host else host}:{port}")


def _ignore_stop_signals() -> None:
    """Keep a stop signal from ending the process before the lifespan has closed everything.

    Uvicorn stops on SIGTERM and SIGINT, restores the handlers of before, which are these, and
    raises the signal again.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)


def _reload_on_hangup(app: FastAPI) -> None:
    """Reload what is published on SIGHUP."""
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        if app.state.reloader is not None:
            task = loop.create_task(app.state.reloader.try_reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
