"""The process around the application: socket, event loop, log, signals."""

import asyncio
import logging
import os
import resource
import signal
import socket
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from embedder.command_line import print_line
from service.contract.addresses import parse_networks
from service.lifecycle.admission import Admission
from service.lifecycle.connection import LimitedProtocol, Limits
from service.settings import Settings, unknown_variables
from service.telemetry.logs import set_up_logging

log = logging.getLogger(__name__)

_OTHER_FILES = 256  # that may be open beside the connections


def listen(settings: Settings) -> list[socket.socket]:
    """Listen, before anything slow is opened; who connects meanwhile waits.

    Returns:
        What listens on the port, and then what listens on the management port, if there is one.

    Raises:
        OSError: The address is in use, or is not this machine's.
    """
    listeners: list[socket.socket] = []
    try:
        for port in (settings.port, settings.management_port or None):
            if port is not None:
                listeners.append(_listen(settings.host, port))
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise OSError(f"cannot listen on {settings.host}:{port}: {error.strerror}") from error
    return listeners


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # two that are bound but do not listen do not notice each other
    except OSError:
        listener.close()
        raise
    return listener


def serve(app: FastAPI, settings: Settings, listeners: list[socket.socket]) -> None:
    """Serve ``app`` until SIGTERM or SIGINT, then finish what is in flight and return.

    Prints the address to stdout once pictures are answered there; everything else is logged to
    stderr. Until then, requests are answered with "not ready".
    """
    set_up_logging(settings.log_level, settings.log_format)
    for name in unknown_variables(os.environ):
        log.warning("the environment variable %s is not a setting of this service", name)
    limits = _limits(app, settings)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,  # RequestRecordMiddleware logs each request
        server_header=False,
        proxy_headers=False,  # ProxyMiddleware reads them
        ws="none",
        http=partial(LimitedProtocol, limits),  # type: ignore[arg-type] # uvicorn only calls it
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.stop_seconds,
    )
    server = _Server(config, app, limits, settings.drain_seconds)

    async def run() -> None:
        async with app.router.lifespan_context(app):
            _ignore_stop_signals()
            _reload_on_hangup(app)
            announcing = asyncio.ensure_future(_announce(app, listeners[0]))
            try:
                await server.serve(listeners)
            finally:
                announcing.cancel()

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())


async def _announce(app: FastAPI, listener: socket.socket) -> None:
    """Print the address to stdout once pictures are answered there, for scripts to read."""
    await app.state.reloader.opened.wait()
    host, port = listener.getsockname()[:2]
    print_line(f"http://{f'[{host}]' if ':' in host else host}:{port}")


def _limits(app: FastAPI, settings: Settings) -> Limits:
    return Limits(
        admission=Admission(_possible_connections(settings), settings.client_connections),
        seconds=settings.receive_seconds,
        proxies=parse_networks(settings.trusted_proxies),
        management_port=settings.management_port,
        refused=app.state.metrics.refused_connections,
    )


def _possible_connections(settings: Settings) -> int:
    """Return how many connections there may be: as the settings and the open files allow."""
    wanted = settings.connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "at most %d connections, since only %d files may be open",
            allowed - _OTHER_FILES,
            allowed,
        )
    return max(1, allowed - _OTHER_FILES)


class _Server(uvicorn.Server):
    """Uvicorn, which stops later than it is asked to."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, limits: Limits, drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._app = app
        self._limits = limits
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: on SIGTERM only after load balancers have seen that this is no longer ready."""
        if sig == signal.SIGTERM and self._drain_seconds and not self._limits.draining:
            log.info("not ready any more; the service stops in %g s", self._drain_seconds)
            self._limits.draining = self._app.state.draining = True
            loop, stop = asyncio.get_running_loop(), super().handle_exit
            loop.call_soon_threadsafe(loop.call_later, self._drain_seconds, stop, sig, frame)
        else:
            super().handle_exit(sig, frame)


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
