"""What the addresses have in common."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from service.app import create_app
from service.http import routes
from service.settings import Settings

ROUTES = [
    route
    for router in (routes.api, routes.operation)
    for route in router.routes
    if isinstance(route, APIRoute)
]


def calls(dependant: Dependant) -> Iterator[Any]:
    """Yield what is called to answer a request: the address's function and what it needs."""
    yield dependant.call
    for needed in dependant.dependencies:
        yield from calls(needed)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_a_request_is_not_sent_from_thread_to_thread(route: APIRoute) -> None:
    """FastAPI calls a plain function in a thread, which costs a request more than the function."""
    found = list(calls(route.dependant))
    assert route.endpoint in found
    for call in found:
        method = call if inspect.isroutine(call) else type(call).__call__
        assert inspect.iscoroutinefunction(method), call


def references(node: Any) -> Iterator[str]:
    """Yield what a part of the document refers to."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from references(value)


def test_what_the_document_refers_to_is_in_it(tmp_path: Path) -> None:
    """A client is made out of it by programs, which stop at a reference to nowhere."""
    document = create_app(Settings(store=tmp_path, embedder=tmp_path)).openapi()
    found = set(references(document))
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert "#/components/schemas/Problem" in found
    assert found <= known


def test_there_are_addresses() -> None:
    """The enumeration above is not empty."""
    assert {"/predict", "/readyz"} <= {route.path for route in ROUTES}
