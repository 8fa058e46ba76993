"""The OpenAPI document tells of everything that can be sent and that can come back."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from service import examples, routes
from service.app import create_app
from service.errors import RULES, RequestError
from service.schemas import Problem
from service.settings import Settings

DOCUMENT = create_app(Settings(store=Path("absent"), embedder=Path("absent"))).openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}
ROUTES = {
    f"{method} {route.path_format}": route
    for router in (routes.api, routes.operation)
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in route.methods
}
FAILS_WITH = {
    "_client": {401},
    "_admin": {401, 403},
    "_batcher": {503},
    "_reloader": {503},
    "_intake": {400, 408, 413, 422, 429, 503},
}
"""What can come of each thing that an address needs; an unforeseen fault can come of all."""


def kinds_of(error: type[RequestError]) -> Iterator[type[RequestError]]:
    """Walk the errors of requests."""
    for kind in error.__subclasses__():
        yield kind
        yield from kinds_of(kind)


def needs(dependant: Dependant) -> Iterator[str]:
    """Yield the names of what is called before an address's own function."""
    for needed in dependant.dependencies:
        yield getattr(needed.call, "__name__", "")
        yield from needs(needed)


def responses(operation: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the statuses of an operation, and what is told of each."""
    for status, response in operation["responses"].items():
        yield int(status), response


def test_there_are_operations() -> None:
    """Whatever is enumerated here is not empty, and every address has its short name."""
    assert len(ROUTES) >= 8
    short = {name for name in OPERATIONS if "/v1/" not in name}
    assert short == ROUTES.keys()
    assert {name.replace("/v1/", "/") for name in OPERATIONS if "/v1/" in name} <= short


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_sent_has_an_example(name: str) -> None:
    """Each parameter, and each form of the body."""
    operation = OPERATIONS[name]
    for parameter in operation.get("parameters", []):
        assert parameter["schema"].get("examples"), parameter["name"]
        assert parameter["description"], parameter["name"]
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        assert body["example"], kind
    if name.startswith("POST") and "predict" in name:
        assert operation["requestBody"]["content"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_comes_back_has_an_example(name: str) -> None:
    """The answer, and every problem; only "nothing is new" has no body."""
    found = dict(responses(OPERATIONS[name]))
    assert 200 in found
    for status, response in found.items():
        for content in response.get("content", {}).values():
            assert content["example"], status
        assert response.get("content") or status == HTTPStatus.NOT_MODIFIED


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_failure_is_a_problem_document_of_its_status(name: str) -> None:
    """In the shape that is really sent."""
    failures = [(code, told) for code, told in responses(OPERATIONS[name]) if code >= 400]
    assert failures
    for status, response in failures:
        [(kind, content)] = response["content"].items()
        assert kind == "application/problem+json"
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert Problem.model_validate(content["example"]).status == status
        assert ("Retry-After" in response.get("headers", {})) == (status in (429, 503))


@pytest.mark.parametrize("name", ROUTES)
def test_an_example_has_the_shape_of_the_answer(name: str) -> None:
    """All fields but those that are null, which FastAPI leaves out, and no others."""
    content = OPERATIONS[name]["responses"]["200"]["content"]
    shape = ROUTES[name].response_model
    if shape is None:
        assert "application/json" not in content
        return
    assert issubclass(shape, BaseModel)
    example = content["application/json"]["example"]
    assert shape.model_validate(example).model_dump(mode="json", exclude_none=True) == example


@pytest.mark.parametrize("name", ROUTES)
def test_whatever_can_come_is_described(name: str) -> None:
    """By what the address needs, under each of its names."""
    needed = set(needs(ROUTES[name].dependant))
    can_come = {500}.union(*(FAILS_WITH[need] for need in needed & FAILS_WITH.keys()))
    for operation in (name, name.replace(" /", " /v1/")):
        if operation in OPERATIONS:
            told = {status for status, _ in responses(OPERATIONS[operation])}
            assert can_come <= told, can_come - told


def test_the_table_knows_what_addresses_need() -> None:
    """All that stands in it is needed by some address, and all that is needed stands in it."""
    needed = {need for route in ROUTES.values() for need in needs(route.dependant)}
    assert needed - {""} == FAILS_WITH.keys()


RAISED = {rule.status: rule for rule in RULES.values()} | {
    kind.rule.status: kind.rule for kind in kinds_of(RequestError) if hasattr(kind, "rule")
}


def test_every_status_of_an_error_is_described_somewhere() -> None:
    """And every example's code is one of its status."""
    assert len(RAISED) > 10
    told = {status for operation in OPERATIONS.values() for status, _ in responses(operation)}
    assert RAISED.keys() <= told
    assert set(examples.PROBLEMS) == {status for status in told if status >= 400}
    rules = [*RULES.values(), *(k.rule for k in kinds_of(RequestError) if hasattr(k, "rule"))]
    codes = {(rule.status, rule.code) for rule in rules} | {(422, "bad-parameters")}
    for status, problem in examples.PROBLEMS.items():
        assert (status, problem.code) in codes
