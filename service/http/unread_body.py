"""Answers a request before its body was read, so that the client gets to see the answer.

Closing a connection with unread data on it makes the kernel reset it, and the reset may overtake
the answer: the client would learn that the connection broke, but not why. So the answer is sent
at once, and the rest of the body is discarded for a moment before the connection is closed.
"""

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

DISCARD_SECONDS = 2.0


class UnreadBodyResponse(Response):
    """A response that discards the rest of the request body, then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, discard what still comes, close."""
        self.headers["Connection"] = "close"
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                await _discard(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    """Read until the body ends or the client disconnects."""
    more = True
    while more:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)
