"""Failures become problem documents: all of them, and without their text."""

from __future__ import annotations

import asyncio
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import httpx
import pytest
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

import embedder
import index
import service
from embedder.errors import ArtifactMissingError, CairnError
from service.app import create_app
from service.http.problems import RULES
from service.settings import Settings


def every_error(kind: type[CairnError] = CairnError) -> Iterator[type[CairnError]]:
    """Walk the tree of errors."""
    yield kind
    for child in kind.__subclasses__():
        yield from every_error(child)


def test_every_error_has_its_status() -> None:
    """Each class of the tree stands in the table itself, wherever it is defined."""
    for package in (embedder, index, service):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", "torch_export")):
                import_module(module.name)
    tree = set(every_error())
    assert len(tree) > 15
    assert set(RULES) == tree | {RequestValidationError, ClientDisconnect, Exception}


def test_every_code_has_one_status_and_every_status_is_a_failure() -> None:
    """A program that goes by the code never meets it with another status."""
    statuses: dict[str, int] = {}
    for rule in RULES.values():
        assert 400 <= rule.status < 600
        assert statuses.setdefault(rule.code, rule.status) == rule.status


def ask(raised: Exception | None, path: str) -> httpx.Response:
    """Ask an application that was never started, or whose address ``/raise`` raises."""
    app = create_app(Settings(store=Path("absent"), embedder=Path("absent")))

    async def fail() -> None:
        assert raised is not None
        raise raised

    app.add_api_route("/raise", fail)

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers={"X-Request-ID": "mine"})

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (RuntimeError("a secret"), 500, "internal"),
        (ValueError("a secret"), 500, "internal"),
        (CairnError("a secret"), 500, "internal"),
        (ArtifactMissingError(Path("/a/secret")), 503, "not-ready"),
    ],
)
def test_what_happened_inside_stays_inside(raised: Exception, status: int, code: str) -> None:
    """The client gets a code and an id to ask with; the text is for the log."""
    answer = ask(raised, "/raise")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "mine"
    assert answer.json()["code"] == code
    assert answer.json()["request_id"] == "mine"
    assert "secret" not in answer.text


def test_before_anything_is_open_the_service_is_alive_but_not_ready() -> None:
    """``/readyz`` and ``/predict`` say 503 and when to come again."""
    assert ask(None, "/healthz").status_code == 200
    answer = ask(None, "/readyz")
    assert answer.status_code == 503
    assert answer.json()["code"] == "not-ready"
    assert int(answer.headers["retry-after"]) > 0
