"""The client's answers are those of the service, though neither imports the other."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

import cairn_client
from cairn_client import answers
from embedder.version import VERSION
from service.contract import schemas
from tests.conftest import ROOT
from tests.contract.test_imports import PROJECT

SCHEMAS = {
    name: schema
    for name, schema in vars(schemas).items()
    if isinstance(schema, type) and issubclass(schema, BaseModel) and not name.startswith("_")
    if schema is not BaseModel
}
SHAPES = {name: shape for name, shape in vars(answers).items() if is_dataclass(shape)}


def spelled(hint: Any) -> str:
    """Spell a type by the names of its parts, without bounds of numbers."""
    if get_origin(hint) is Annotated:
        return spelled(get_args(hint)[0])
    origin, parts = get_origin(hint), [spelled(part) for part in get_args(hint)]
    if origin in (Union, UnionType):
        return " | ".join(parts)
    return f"{origin.__name__}[{', '.join(parts)}]" if origin else getattr(hint, "__name__", "...")


def test_the_client_knows_every_schema() -> None:
    """And none that the service does not have; all of them can be imported from its face."""
    assert len(SCHEMAS) > 10
    assert set(SHAPES) == set(SCHEMAS)
    assert set(SHAPES) <= set(cairn_client.__all__)


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_answer_has_the_fields_of_its_schema(name: str) -> None:
    """The same names with the same types."""
    schema = {
        field: spelled(hint)
        for field, hint in get_type_hints(SCHEMAS[name], include_extras=True).items()
        if field in SCHEMAS[name].model_fields
    }
    shape = {field: spelled(hint) for field, hint in get_type_hints(SHAPES[name]).items()}
    assert shape == schema


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_the_service_may_leave_out_has_a_default(name: str) -> None:
    """And what an older one does not know; any other absent field means that others answered."""
    nullable = SCHEMAS[name].model_fields.items()
    left_out = {
        field for field, info in nullable if not info.is_required() and info.default is None
    }
    optional = {field.name for field in fields(SHAPES[name]) if field.default is not MISSING}
    assert optional == left_out


def test_the_client_is_of_the_program_s_version() -> None:
    """They are released together."""
    own = tomllib.loads((ROOT / "cairn_client" / "pyproject.toml").read_text(encoding="utf-8"))
    assert own["project"]["version"] == VERSION
    assert own["project"]["requires-python"] == PROJECT["project"]["requires-python"]
    [requirement] = own["project"]["dependencies"]
    assert requirement.startswith("httpx")
    assert requirement in PROJECT["project"]["optional-dependencies"]["service"]
