"""The OpenAPI document tells of everything that can be sent and that can come back."""

from __future__ import annotations

import ast
import asyncio
import inspect
import pathlib
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.params import Path
from fastapi.routing import APIRoute
from pydantic import BaseModel

import embedder.errors
import service.http.problems
from embedder.errors import CairnError, PictureFormatError
from embedder.version import VERSION
from service.app import create_app
from service.contract.api_keys import digest_of
from service.contract.schemas import Problem
from service.dispatch.batcher import Batcher
from service.http import openapi_examples as examples
from service.http import routes
from service.http.problems import DESCRIBED, RULES
from service.http.uploads import BodyReader, UploadBudget
from service.inference.errors import (
    DeadlineError,
    IdUnknownError,
    PictureUnknownError,
    TooManyPicturesError,
)
from service.lifecycle.reload import Reloader, ReloadRefusedError
from service.settings import Settings

ABSENT = pathlib.Path("absent")
DOCUMENT = create_app(Settings(store=ABSENT, embedder=ABSENT)).openapi()
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
ROOMS = (Batcher, UploadBudget, BodyReader, Reloader)
"""What addresses call; the docstrings say what each of their methods raises."""

ERRORS = {
    name: kind
    for module in (embedder.errors, service.http.problems)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, CairnError)
}


def statuses_of(error: type[Exception]) -> set[int]:
    """Give the statuses that an error, or one of its kinds, comes with."""
    kinds = set[int]().union(*map(statuses_of, error.__subclasses__()))
    return kinds | {int(RULES[error].status)}


def raised_by(method: object) -> set[int]:
    """Read in a docstring with which statuses a method fails."""
    _, _, told = (inspect.getdoc(method) or "").partition("Raises:\n")
    names = re.findall(r"^    (\w+): ", told, re.MULTILINE)
    return set[int]().union(*(statuses_of(ERRORS[name]) for name in names))


METHODS = {
    name: raised_by(method)
    for room in ROOMS
    for name, method in vars(room).items()
    if not name.startswith("_") and inspect.isfunction(method) and raised_by(method)
}


def uncaught(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what is written in a function, except where errors are caught."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Try):
            yield from uncaught(child)


def fails_with(call: Any) -> set[int]:
    """Read in a function of ``service.http.routes`` with which statuses it fails."""
    if inspect.getmodule(call) is not routes:
        return set()
    found = set[int]()
    for node in uncaught(ast.parse(inspect.getsource(call))):
        if isinstance(node, ast.Raise):
            assert isinstance(node.exc, ast.Call)
            found |= statuses_of(ERRORS[ast.unparse(node.exc.func)])
        if isinstance(node, ast.Attribute):
            found |= METHODS.get(node.attr, set())
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found |= fails_with(getattr(routes, node.func.id, None))
    return found


def takes_anything(parameter: Any) -> bool:
    """Tell whether no value of a parameter is refused: it is text, of any kind, or absent."""
    field = parameter.field_info
    free = field.annotation in (str, str | None) and not field.metadata
    return free and (isinstance(field, Path) or not field.is_required())


def can_come(dependant: Dependant) -> set[int]:
    """Give the statuses with which what an address needs, and it itself, can fail."""
    found = fails_with(dependant.call).union(*map(can_come, dependant.dependencies))
    parameters = (dependant.path_params, dependant.query_params, dependant.header_params)
    if not all(takes_anything(parameter) for kind in parameters for parameter in kind):
        found.add(HTTPStatus.UNPROCESSABLE_ENTITY)
    return found


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


def test_operations_have_names_for_generated_clients() -> None:
    """Short, unique and stable: those of the functions, without addresses or methods."""
    names = {name: operation["operationId"] for name, operation in OPERATIONS.items()}
    assert names["POST /v1/predict"] == "predict"
    assert names["POST /v1/predict/batch"] == "predict_batch"
    assert names["GET /v1/landmarks"] == "landmarks"
    assert names["GET /v1/pictures/{picture}"] == "picture"
    assert names["POST /predict"] == "predict_short"
    assert len(set(names.values())) == len(names)
    for name in names.values():
        assert re.fullmatch(r"[a-z]+(_[a-z]+){0,2}", name)


def test_the_document_has_the_version_of_the_program() -> None:
    """That of the distribution, as installed."""
    assert DOCUMENT["info"]["version"] == VERSION


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_sent_has_an_example(name: str) -> None:
    """Each parameter, and each form of the body."""
    operation = OPERATIONS[name]
    for parameter in operation.get("parameters", []):
        assert parameter["schema"].get("examples"), parameter["name"]
        assert parameter["description"], parameter["name"]
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        assert body["example"], kind
    if re.search("^POST.*/(predict|verify|embed)", name):
        assert {"multipart/form-data", "application/json"} <= operation["requestBody"][
            "content"
        ].keys()


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
def test_what_can_come_is_described_and_nothing_else(name: str) -> None:
    """By the code of the address and of what it calls; a fault of the program can come of all."""
    expected = can_come(ROUTES[name].dependant) | {421, 431, 500}
    for operation in (name, name.replace(" /", " /v1/")):
        if operation in OPERATIONS:
            told = {status for status, _ in responses(OPERATIONS[operation])}
            assert told - {200, 304} == expected


def test_what_can_come_is_found_in_the_code() -> None:
    """What the test above reads says something."""
    assert {"ask", "refuse_if_full", "pictures", "nothing", "thumbnail", "reload"} <= set(METHODS)
    assert can_come(ROUTES["POST /predict"].dependant) >= {401, 415, 422, 429, 503, 504}


RAISED = {rule.status: rule for rule in RULES.values()}


def test_every_status_of_an_error_is_described_somewhere() -> None:
    """And every example's code is one of its status."""
    assert len(RAISED) > 10
    told = {status for operation in OPERATIONS.values() for status, _ in responses(operation)}
    assert RAISED.keys() <= told
    assert set(examples.PROBLEMS) == {status for status in told if status >= 400}
    codes = {(rule.status, rule.code) for rule in DESCRIBED}
    for status, problem in examples.PROBLEMS.items():
        assert (status, problem.code) in codes


@dataclass(frozen=True, slots=True)
class Cause:
    """What makes an address fail with one status.

    Attributes:
        sent: What is sent, as arguments of httpx.
        settings: What the service runs with.
        failure: What comes of everything that is asked of the batcher and of the reloader.
        is_open: Whether a gallery is open.
    """

    sent: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    failure: Exception | None = None
    is_open: bool = True


ADMIN = {"X-API-Key": "the admin's"}
KEYS = {"api_keys": digest_of("a client's"), "admin_keys": digest_of("the admin's")}
FORM = {"files": {"file": ("picture", bytes(100_000))}}


async def silence() -> AsyncIterator[bytes]:
    """Yield a body that does not come in time."""
    await asyncio.sleep(60)
    yield b""


CAUSES = {
    400: Cause({"content": b"--", "headers": {"Content-Type": "multipart/form-data; boundary=a"}}),
    401: Cause(settings=KEYS),
    403: Cause(),
    404: Cause(failure=PictureUnknownError("")),
    408: Cause(
        {
            "content": silence,
            "headers": {"Content-Type": "multipart/form-data; boundary=a"},
        },
        {"receive_seconds": 0.01},
    ),
    409: Cause({"headers": ADMIN}, KEYS, ReloadRefusedError("")),
    413: Cause(FORM, {"max_bytes": 10}),
    415: Cause(FORM, failure=PictureFormatError("")),
    421: Cause({"headers": {"Host": "elsewhere.example"}}),
    422: Cause({"params": {"k": 101, "limit": 0}}, failure=IdUnknownError("")),
    429: Cause(FORM, failure=TooManyPicturesError("")),
    503: Cause({"headers": ADMIN}, {"admin_keys": KEYS["admin_keys"]}, is_open=False),
    504: Cause(FORM, failure=DeadlineError("")),
}
"""For each status the same, whatever the address."""

TOLD = [
    (name, status)
    for name in ROUTES
    for status, _ in responses(OPERATIONS[name])
    if status >= 400 and status != 431  # of heads, which never reach the application: test_attacks
]


def failing(cause: Cause) -> SimpleNamespace:
    """Make what stands where batcher and reloader do."""

    def fail(*_: object, **__: object) -> bytes:
        if cause.failure is not None:
            raise cause.failure
        return b""

    async def fail_later(*_: object, **__: object) -> None:
        fail()

    is_busy = isinstance(cause.failure, TooManyPicturesError)
    return SimpleNamespace(
        refuse_if_full=fail if is_busy else lambda _: None,
        ask=fail_later,
        pool="there is one",
        landmarks=fail_later,
        thumbnail=fail_later,
        reload=fail_later,
    )


@pytest.mark.parametrize(("name", "status"), [pair for pair in TOLD if pair[1] != 500])
def test_what_is_described_can_come(name: str, status: int) -> None:
    """From each address, and as the problem that is described."""
    cause = CAUSES[status]
    app = create_app(Settings(store=ABSENT, embedder=ABSENT, **cause.settings))
    if cause.is_open:
        app.state.batcher = app.state.reloader = failing(cause)
    sent = {"params": {"landmark": "a"}} | cause.sent
    if callable(sent.get("content")):
        sent["content"] = sent["content"]()
    method, path = name.split()

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path.format(picture="a"), **sent)

    answer = asyncio.run(ask())
    assert answer.status_code == status
    assert Problem.model_validate_json(answer.content).status == status


def test_there_are_causes_of_every_status() -> None:
    """And each is tried."""
    assert CAUSES.keys() == {status for _, status in TOLD} - {500}
