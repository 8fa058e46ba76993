"""Both clients of the service by one call, and their answers beside the service's schemas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel

from cairn_client import AsyncClient, Client

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


def holds(answer: Any, schema: BaseModel) -> bool:
    """Tell whether an answer of a client has the same values as one of the service, and no more."""
    return type(schema).model_validate_json(json.dumps(asdict(answer))) == schema
