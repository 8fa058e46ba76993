"""One record per request, shared by HTTP, log and metrics; one log line and one count for each.

What is logged is the path without its query, and no header: nothing in it is secret.
"""

import logging
import re
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry.metrics import Metrics
from service.telemetry.tracing import here

HEADER = "X-Request-ID"

_KEY = "cairn.record"
_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_PROBES = {"/healthz", "/readyz", "/metrics"}  # asked every few seconds, and seen by who asks
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RequestRecord:
    """What becomes known of a request while it is answered.

    Attributes:
        body_received: Whether the whole body was read.
        client: Name of the API key; empty where none is needed.
        asks_about_pictures: Whether the request counts in the outcomes of pictures.
        outcomes: One for each picture that was counted: ``answered``, or a problem's code. Empty
            where the status of the whole request tells.
    """

    body_received: bool = True
    client: str = ""
    asks_about_pictures: bool = False
    outcomes: list[str] = field(default_factory=list)


def record_of(scope: Scope) -> RequestRecord:
    """Return the record of the request that ``scope`` belongs to."""
    record: RequestRecord = scope[_KEY]
    return record


def request_id() -> str:
    """Return the id of the request being answered; empty outside of one."""
    return correlation_id.get() or ""


def with_request_ids(app: ASGIApp) -> ASGIApp:
    """Give each request of ``app`` an id: the client's if it is safe to log, else a random one.

    The id comes back in ``X-Request-ID``; :func:`request_id` and every line logged meanwhile
    have it.
    """
    return CorrelationIdMiddleware(
        app,
        header_name=HEADER,
        update_request_header=False,
        validator=lambda received: _SAFE_ID.fullmatch(received) is not None,
    )


class RequestRecordMiddleware:
    """Keeps the record of each request; logs and counts it at the end."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = scope[_KEY] = RequestRecord(body_received=not _has_body(Headers(scope=scope)))
        status, started = 500, time.perf_counter()

        async def watch_body() -> Message:
            message = await receive()
            ends = message["type"] == "http.request" and not message.get("more_body", False)
            if ends and not record.body_received:
                record.body_received = True
                seconds = time.perf_counter() - started
                self._metrics.observe_stage("receive", started, seconds, [here()])
            return message

        async def watch_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, watch_body, watch_status)
        finally:
            seconds = time.perf_counter() - started
            self._count(scope, status, seconds)
            _log(scope, status, seconds)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        address = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(address, _method(scope), str(status)).inc()
        self._metrics.request_seconds.labels(address).observe(seconds)
        record = record_of(scope)
        if record.asks_about_pictures:
            failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
            for outcome in record.outcomes or ["internal" if failed else "answered"]:
                self._metrics.outcomes.labels(outcome).inc()


def _has_body(headers: Headers) -> bool:
    return bool(headers.get("content-length", "0").strip("0")) or "transfer-encoding" in headers


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "other"


def _log(scope: Scope, status: int, seconds: float) -> None:
    facts = {
        "method": _method(scope),
        "path": quote(scope["path"]),
        "status": status,
        "milliseconds": round(1000 * seconds, 1),
        "client": record_of(scope).client,
        "peer": (scope.get("client") or ("",))[0],  # as trusted proxies name it
    }
    log.log(
        logging.DEBUG if scope["path"] in _PROBES else logging.INFO,
        "%(method)s %(path)s %(status)d %(milliseconds).1f ms from %(peer)s",
        facts,
        extra=facts,
    )
