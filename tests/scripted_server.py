"""A real HTTP server that answers as a script says, one act for each request."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from service.contract.schemas import Problem

Act = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it arrived, and when."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Script:
    """What is going to be answered, and what was asked.

    Attributes:
        acts: One for each request; the last one for all that follow.
        asked: The requests that came.
        url: Where the server is.
    """

    acts: tuple[Act, ...]
    asked: list[Asked] = field(default_factory=list)
    url: str = ""


def says(status: int, body: bytes = b"", kind: str = "application/json", **headers: str) -> Act:
    """Answer; ``retry_after="1"`` is the header ``Retry-After: 1``."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return act


def refuses(status: int, code: str = "a-code", **headers: str) -> Act:
    """Answer with a problem document."""
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail="words of the service",
        request_id="its-id",
    )
    return says(status, problem.model_dump_json().encode(), "application/problem+json", **headers)


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    """Read the request and break the connection."""
    handler.connection.close()


def keeps_silent(handler: BaseHTTPRequestHandler) -> None:
    """Say nothing for a minute, or until the client leaves."""
    handler.connection.settimeout(60)
    with contextlib.suppress(OSError):
        handler.connection.recv(1)


def drips(handler: BaseHTTPRequestHandler) -> None:
    """Begin to answer, and go on for a minute, or until the client leaves."""
    handler.send_response(200)
    handler.send_header("Content-Type", "image/jpeg")
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(600):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.1)


@contextmanager
def playing(*acts: Act, port: int = 0) -> Iterator[Script]:
    """Serve a script."""
    script = Script(acts)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            number = len(script.asked)
            asked = Asked(self.command, self.path, headers, body, time.monotonic())
            script.asked.append(asked)
            script.acts[min(number, len(script.acts) - 1)](self)

        do_GET = do_POST = answer  # noqa: N815 (the names that http.server looks for)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()
