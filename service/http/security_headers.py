"""Headers that keep a browser from doing more with an answer than it should."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def is_held(if_none_match: str | None, tag: str) -> bool:
    """Tell whether a client has what bears ``tag`` already, by its ``If-None-Match``.

    >>> is_held('W/"a", "b"', '"a"'), is_held('"b"', '"a"'), is_held(None, '"a"')
    (True, False, False)
    """
    tags = {one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")}
    return tag in tags or "*" in tags


class SecurityHeadersMiddleware:
    """Add them to every answer that does not say otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
