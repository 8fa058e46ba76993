"""What a request is addressed to, before it is routed.

Headers of trusted proxies are believed; a request for a foreign host is refused; what is for
operators may have a port of its own; a slash at the end of a path does not matter; ``HEAD`` is
answered wherever ``GET`` is.
"""

import re
from collections.abc import Set as AbstractSet

from fastapi import HTTPException, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.contract.addresses import (
    is_in,
    is_local,
    may_be_asked_as,
    parse_hosts,
    parse_networks,
)
from service.http.errors import HostRefusedError
from service.http.problems import respond
from service.settings import Settings

_PREFIX = re.compile(r"(?:/[\w.~-]+)+")


class ProxyMiddleware:
    """Believes ``X-Forwarded-For``, ``-Proto`` and ``-Prefix`` of trusted proxies."""

    def __init__(self, app: ASGIApp, trusted: str) -> None:
        self._proxies = parse_networks(trusted)
        names = [str(network) for network in self._proxies]
        self._app = ProxyHeadersMiddleware(app, names)  # type: ignore[arg-type] # its own ASGI types

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        address = (scope.get("client") or ("",))[0]
        if is_in(address, self._proxies):
            prefix = Headers(scope=scope).get("X-Forwarded-Prefix", "").rstrip("/")
            if _PREFIX.fullmatch(prefix):
                scope["root_path"] = prefix
        await self._app(scope, receive, send)  # type: ignore[arg-type] # its own ASGI types


class AddressMiddleware:
    """Refuses requests that are not for this service, and prepares others for the router.

    Args:
        app: What gets the requests.
        settings: Of the service.
        operation: The paths that are for operators.
    """

    def __init__(self, app: ASGIApp, settings: Settings, operation: AbstractSet[str]) -> None:
        self._app = app
        self._hosts = parse_hosts(settings.hosts)
        self._is_local = is_local(settings.host)
        self._management_port = settings.management_port
        self._operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["path"] = _below_prefix(scope).rstrip("/") or "/"
        if error := self._refusal(scope):
            answer = await respond(Request(scope, receive), error)
            await answer(scope, receive, send)
        elif scope["method"] == "HEAD":  # the server leaves out the body
            get = {**scope, "method": "GET"}
            try:
                await self._app(get, receive, send)
            finally:
                scope["route"] = get.get("route")
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Exception | None:
        host = Headers(scope=scope).get("host", "")
        if not may_be_asked_as(host, self._hosts, local=self._is_local):
            return HostRefusedError("this service is not asked by that name; see --hosts")
        if self._management_port:
            is_management = (scope.get("server") or ("", 0))[1] == self._management_port
            if is_management != (scope["path"] in self._operation):
                return HTTPException(404)
        return None


def _below_prefix(scope: Scope) -> str:
    """Return the path below the prefix, which a proxy may or may not have taken off."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    return path.removeprefix(prefix) if f"{path}/".startswith(f"{prefix}/") else path
