"""The page for people at ``/``: a few files, read once, that may load nothing from elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from service.http.security_headers import is_held

_FOLDER = Path(__file__).parents[1] / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_MAX_BYTES = b"{max_bytes}"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",  # kept, and asked for again by its tag
}


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the page, with headers that say what it is."""

    content: bytes
    headers: dict[str, str]

    @classmethod
    def read(cls, path: Path, max_bytes: int) -> _File:
        content = path.read_bytes().replace(_MAX_BYTES, b"%d" % max_bytes)
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        return cls(content, {**_HEADERS, "Content-Type": _TYPES[path.suffix], "ETag": tag})

    async def send(self, request: Request) -> Response:
        """Answer a request for it; with nothing where the browser has it already."""
        if is_held(request.headers.get("If-None-Match"), self.headers["ETag"]):
            return Response(status_code=304, headers=self.headers)
        return Response(self.content, headers=self.headers)


def website(max_bytes: int) -> APIRouter:
    """Read the page; give its addresses, ``/`` and one for each file beside it.

    Nothing of a request becomes part of a path.

    Args:
        max_bytes: Largest picture that the service takes; the page makes larger ones smaller.
    """
    router = APIRouter(include_in_schema=False)
    for path in sorted(path for path in _FOLDER.iterdir() if path.suffix in _TYPES):
        address = "/" if path.name == "index.html" else f"/page/{path.name}"
        router.add_api_route(address, _File.read(path, max_bytes).send, methods=["GET", "HEAD"])
    return router
