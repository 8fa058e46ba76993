"""A last answer to a client that is still sending.

Closing a connection with unread data on it makes the kernel reset it, and the reset may overtake
the answer: the client then learns that the connection broke, not why. So the answer is sent at
once, and what still comes is thrown away for a moment before the connection is closed.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

LINGER_SECONDS = 2.0


class LingeringResponse(Response):
    """A response after which the connection is closed, though not all of the body was read."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, let the client notice, then close."""
        self.headers["Connection"] = "close"
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await _discard(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    """Read until the body ends or the client leaves, and keep nothing."""
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
