"""One id per request: taken from the client if it is fit to be logged, else made here.

It comes back in ``X-Request-ID`` and in every problem document, and the one line that is logged
per request starts with it, so a client's complaint and our log meet.
"""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-ID"

_FIT = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

log = logging.getLogger(__name__)


def request_id(scope: Scope) -> str:
    """Return the id of the request that ``scope`` belongs to; empty before it has one."""
    found: str = scope.get("cairn.request_id", "")
    return found


class RequestIdMiddleware:
    """Give every request its id, return it, and log how the request went.

    An unforeseen failure passes through here as an exception and is answered further out, by
    ``service.errors``, which adds the id to its own answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        identity = given if _FIT.fullmatch(given) else uuid.uuid4().hex
        scope["cairn.request_id"] = identity
        status, started = 500, time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = identity
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            milliseconds = 1000 * (time.perf_counter() - started)
            log.info(
                "%s %s %s %d %.1f ms",
                identity,
                scope["method"],
                scope["path"],
                status,
                milliseconds,
            )
