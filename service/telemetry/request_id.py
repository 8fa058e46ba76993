"""One id per request, and one line in the log, and one count, for each.

The id is taken from the client if it is fit to be logged, else made here. It comes back in
``X-Request-ID`` and in every problem document, and every line that is logged about the request
carries it, so a client's complaint and our log meet. What is logged is the path without its
query, and no header: nothing of it is secret.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from http import HTTPStatus
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry.metrics import Metrics

HEADER = "X-Request-ID"

_FIT = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

log = logging.getLogger(__name__)


def request_id(scope: Scope) -> str:
    """Return the id of the request that ``scope`` belongs to; empty before it has one."""
    found: str = scope.get("cairn.request_id", "")
    return found


def is_received(scope: Scope) -> bool:
    """Tell whether all of the request's body was read."""
    found: bool = scope.get("cairn.received", True)
    return found


class RequestIdMiddleware:
    """Give every request its id, return it, log and count how the request went.

    An unforeseen failure passes through here as an exception and is answered further out, by
    ``service.http.problems``, which adds the id to its own answer.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(HEADER, "")
        identity = given if _FIT.fullmatch(given) else uuid.uuid4().hex
        scope["cairn.request_id"] = identity
        scope["cairn.received"] = not (
            headers.get("content-length", "0").strip("0") or "transfer-encoding" in headers
        )
        status, started = 500, time.perf_counter()

        async def receive_and_note() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                scope["cairn.received"] = True
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = identity
            await send(message)

        try:
            await self._app(scope, receive_and_note, send_with_id)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        address = getattr(route, "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(address, method, str(status)).inc()
        self._metrics.request_seconds.labels(address).observe(seconds)
        if scope.get("cairn.asks_of_picture"):
            unworded = "internal" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "answered"
            self._metrics.outcomes.labels(scope.get("cairn.outcome", unworded)).inc()
        facts = {
            "request_id": request_id(scope),
            "method": method,
            "path": quote(scope["path"]),
            "status": status,
            "milliseconds": round(1000 * seconds, 1),
            "client": scope.get("cairn.client", ""),
        }
        words = "%(request_id)s %(method)s %(path)s %(status)d %(milliseconds).1f ms"
        log.info(words, facts, extra=facts)
