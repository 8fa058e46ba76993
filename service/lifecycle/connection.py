"""One connection of a client: uvicorn's protocol, but within limits.

Uvicorn takes heads of any size, waits without limit for their end and for a client to read its
answer, and takes any number of connections. The body of a request is limited in
:mod:`service.http.uploads`; a connection between requests has uvicorn's keep-alive timeout.

What is refused here never becomes a request: the application does not see it.
"""

import asyncio
import logging
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

import httptools
from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.contract.addresses import Network, client_of, is_in
from service.contract.schemas import Problem
from service.lifecycle.admission import Admission, Refusal

log = logging.getLogger(__name__)

HEAD_BYTES = 64 << 10
"""Most bytes of the head of a request; as many again may follow that are no body: extensions of
chunks, and trailers."""

HEADERS = 128
"""Most headers of a request."""

PIPELINED = 16
"""Most requests that may wait on one connection for the answer to another."""

PIECES = 2048
"""Most pieces in which a body may come, and one more for each 64 bytes of it."""

_BYTES_PER_PIECE = 64
_LINGER_SECONDS = 1.0  # to read a refusal in
_LINGERING = 64  # connections that may do so


class _Answer(NamedTuple):
    """What a client is told of a refusal."""

    status: HTTPStatus
    code: str
    detail: str
    retry_after: int | None = None


HEAD_TOO_LARGE = _Answer(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head-too-large",
    f"the address and the headers may have {HEAD_BYTES} bytes and {HEADERS} headers",
)
_MALFORMED = _Answer(HTTPStatus.BAD_REQUEST, "not-http", "this is no request of HTTP/1.1")
_REFUSALS = {
    Refusal.CLIENT: _Answer(
        HTTPStatus.TOO_MANY_REQUESTS, "too-many-connections", "you have too many connections", 5
    ),
    Refusal.ALL: _Answer(
        HTTPStatus.SERVICE_UNAVAILABLE, "too-many-connections", "there are too many connections", 5
    ),
}


@dataclass(eq=False, slots=True)
class Limits:
    """What the connections of one service keep to.

    Attributes:
        admission: Which of them may stay.
        seconds: How long a client may take to send a head, or to read an answer.
        proxies: Networks of proxies, whose connections are of many clients.
        management_port: Port on which no connection is refused for its number; 0 for none.
        refused: Counts what is refused, by its code.
        draining: Whether the service is about to stop: each answer closes its connection.
    """

    admission: Admission
    seconds: float
    proxies: tuple[Network, ...]
    management_port: int
    refused: Counter
    draining: bool = False


class LimitedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol within limits.

    Args:
        limits: What it keeps to.
        arguments: Uvicorn's own.
    """

    def __init__(self, limits: Limits, **arguments: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(**arguments)
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._idle_since = self.loop.time()
        self._refused = False
        self._fault = _MALFORMED
        self._in_head, self._headers = True, 0
        self._framing, self._allowed = 0, HEAD_BYTES  # bytes received that are no body
        self._body_bytes = self._pieces = 0

    # What admission looks at.

    @property
    def owner(self) -> str:
        """Whose connection it is; a proxy's if there is one."""
        return client_of(self.client[0]) if self.client else ""

    @property
    def idle_since(self) -> float | None:
        """Since when there is no request on it; None while there is one."""
        return self._idle_since if self._is_idle() else None

    def drop(self) -> None:
        """Close the connection; what its client does not read is lost."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Take the connection in, or refuse it."""
        super().connection_made(transport)
        limits = self._limits
        if self.server is not None and self.server[1] == limits.management_port:
            refusal = None
        else:
            address = self.client[0] if self.client else ""
            refusal = limits.admission.admit(self, is_proxy=is_in(address, limits.proxies))
        if refusal is None:
            self._start_timer()
        elif len(self.connections) > limits.admission.most + _LINGERING:
            transport.abort()
        else:
            self._refuse(_REFUSALS[refusal])

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse a head, or what lies between chunks, that is too large."""
        if self._refused:
            return  # unread, it would make the kernel reset the connection
        self._unset_keepalive_if_required()
        if self._timer is None and self._is_idle():
            self._start_timer()
        self._framing += len(data)
        self._feed(data)
        if self._framing > self._allowed and not self._refused:
            self._refuse(HEAD_TOO_LARGE if self._in_head else _MALFORMED)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._writing = self.loop.call_later(self._limits.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self._stop_timers(self._writing)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another connection."""
        self._stop_timers(self._timer, self._writing)
        self._limits.admission.remove(self)
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for too long."""
        self.drop()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Refuse a request that is one too many."""
        if len(self.pipeline) >= PIPELINED:
            raise ValueError("too many requests wait for an answer")
        super().on_message_begin()
        self._in_head, self._headers = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; leave a trailer, which is none, whatever its name."""
        self._headers += 1
        if self._headers > HEADERS:
            self._fault = HEAD_TOO_LARGE if self._in_head else _MALFORMED
            raise ValueError("too many headers")
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._stop_timers(self._timer)
        self._timer = None
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            self._fault = HEAD_TOO_LARGE
            raise ValueError("the head is too large")
        self._in_head, self._headers = False, 0
        if self.parser.should_upgrade():
            return  # _feed() begins anew
        self._allowed += HEAD_BYTES
        super().on_headers_complete()
        if self._limits.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Count what is body; refuse crumbs, of which each takes as long as a whole chunk."""
        self._framing -= len(body) + _BYTES_PER_PIECE // 8  # about what a chunk needs around it
        self._body_bytes += len(body)
        self._pieces += 1
        if self._pieces > PIECES + self._body_bytes // _BYTES_PER_PIECE:
            raise ValueError("the body comes in pieces that are too small")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to count anew."""
        self._framing, self._allowed = 0, HEAD_BYTES
        self._body_bytes = self._pieces = 0
        if not self.parser.should_upgrade():
            self._in_head = True
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Note since when the connection is idle."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    # The rest.

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._fault)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Answer a request that asks for another protocol, such as HTTP/2, as if it did not.

        The parser takes what follows such a head for the other protocol: another parser gets the
        head without the wish.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(_MALFORMED)
            return
        version = self.parser.get_http_version().encode()
        closes = not self.parser.should_keep_alive()
        head = [b"%b %b HTTP/%b" % (method, self.url, version)]
        head += [
            b"%b: %b" % header
            for header in self.headers
            if header[0] not in (b"connection", b"upgrade", b"http2-settings")
        ]
        head += [b"Connection: close"] * closes
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        self._feed(b"\r\n".join([*head, b"", rest]))

    def _is_idle(self) -> bool:
        return not self._refused and (self.cycle is None or self.cycle.response_complete)

    def _refuse(self, answer: _Answer) -> None:
        """Say why, where nothing else is being said, and close the connection."""
        self._limits.refused.labels(answer.code).inc()
        log.debug("refused %s: %s", self.owner, answer.code)  # an attack may have thousands
        is_between = self._is_idle()
        self._refused = True
        self._stop_timers(self._timer)
        self._timer = None
        if not is_between and (self._in_head or self.pipeline or self.cycle.response_started):
            self.transport.close()
            return
        if not is_between:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(_response(answer))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self._limits.seconds, self.drop)

    def _stop_timers(self, *timers: asyncio.TimerHandle | None) -> None:
        for timer in timers:
            if timer is not None:
                timer.cancel()


def _response(answer: _Answer) -> bytes:
    """Word a refusal as the application words its own."""
    body = Problem(
        title=answer.status.phrase,
        status=answer.status,
        code=answer.code,
        detail=answer.detail,
        request_id=secrets.token_hex(16),
        retry_after=answer.retry_after,
    ).model_dump_json()
    lines = [
        f"HTTP/1.1 {answer.status} {answer.status.phrase}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Connection: close",
        *([f"Retry-After: {answer.retry_after}"] if answer.retry_after else []),
    ]
    return "\r\n".join([*lines, "", body]).encode()
