"""Both clients of the service by one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from service.client.client import AsyncClient, Client

KINDS = ("waiting", "awaiting")


def ask(
    kind: str, url: str, question: Callable[[Any], Any], key: str | None = None, **patience: Any
) -> Any:
    """Open a client of one of :data:`KINDS`, ask ``question`` of it, and give the answer."""
    if kind == "waiting":
        with Client(url, key, **patience) as client:
            return question(client)

    async def wait() -> Any:
        async with AsyncClient(url, key, **patience) as client:
            return await question(client)

    return asyncio.run(wait())
