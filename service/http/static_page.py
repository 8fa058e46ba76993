"""The web page at ``/`` and its files, which may load nothing from elsewhere."""

import hashlib
import os
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from service.http.security_headers import matches_etag

FOLDER = Path(__file__).parents[1] / "page"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",  # kept, and revalidated by ETag
}


_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What Python's ``mimetypes`` says of scripts depends on its version and on the machine."""


class _PageFiles(StaticFiles):
    """Starlette's static files, with the page's headers, and of known types only."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Send one file, or say that it did not change."""
        suffix = Path(full_path).suffix
        if suffix not in _TYPES:
            raise HTTPException(404)
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        if response.status_code != 304:
            response.headers["Content-Type"] = _TYPES[suffix]
        return response


def add_page(app: FastAPI, max_bytes: int, *, keeps_unsure: bool = False) -> None:
    """Serve the page at ``/`` and its files under ``/page/``.

    The page itself is no static file, since it contains settings.

    Args:
        app: What serves them.
        max_bytes: Largest picture that the service accepts; the page makes larger ones smaller.
        keeps_unsure: Whether the service keeps pictures that it is not sure of; the page says so.
    """
    content = (FOLDER / "index.html").read_text(encoding="utf-8")
    for placeholder, text in {
        "{max_bytes}": str(max_bytes),
        "{hidden_if_kept}": "hidden" if keeps_unsure else "",
        "{hidden_unless_kept}": "" if keeps_unsure else "hidden",
    }.items():
        content = content.replace(placeholder, text)

    async def index(request: Request) -> Response:
        return page_response(request, content)

    app.add_route("/", index, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount("/page", _PageFiles(directory=FOLDER))


def page_response(request: Request, content: str) -> Response:
    """Answer with a page that may load nothing but our own files, or say that it did not change."""
    headers = {**_HEADERS, "ETag": f'"{hashlib.sha256(content.encode()).hexdigest()[:32]}"'}
    if matches_etag(request.headers.get("If-None-Match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return HTMLResponse(content, headers=headers)
