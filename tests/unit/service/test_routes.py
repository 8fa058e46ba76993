"""What the addresses have in common."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from service import routes

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


def test_there_are_addresses() -> None:
    """The enumeration above is not empty."""
    assert {"/predict", "/readyz"} <= {route.path for route in ROUTES}
