"""Headers that limit what a browser does with an answer."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def matches_etag(if_none_match: str | None, tag: str) -> bool:
    """Tell whether an ``If-None-Match`` header holds ``tag``, or ``*``.

    >>> matches_etag('W/"a", "b"', '"a"'), matches_etag('"b"', '"a"'), matches_etag(None, '"a"')
    (True, False, False)
    """
    tags = {one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")}
    return tag in tags or "*" in tags


class SecurityHeadersMiddleware:
    """Adds the headers to every answer, where it does not set them itself."""

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
