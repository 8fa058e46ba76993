"""From JSON to dataclasses. Knows nothing of services."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

_T = TypeVar("_T")


def parse(shape: type[_T], body: bytes) -> _T:
    """Read a dataclass from JSON.

    Its fields may be ``str``, ``int``, ``float``, ``bool``, ``tuple[X, ...]``, other dataclasses,
    and each of these ``| None``. Members of an object that are no fields are ignored; absent ones
    take the field's default.

    Args:
        shape: The dataclass.
        body: The JSON text.

    Raises:
        ValueError: That is no JSON, or it has another shape.

    >>> from cairn_client.answers import Landmark
    >>> parse(Landmark, b'{"landmark_id": "7", "name": "Hawa Mahal", "new": [1]}').name
    'Hawa Mahal'
    """
    try:
        found: _T = _read(shape, json.loads(body, parse_constant=_refuse))
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"this is no {shape.__name__}") from error
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _read(hint: Any, value: Any) -> Any:  # noqa: ANN401 - any type and any JSON value
    """Convert one value; raise ``ValueError`` or ``TypeError`` if it does not fit."""
    if get_origin(hint) is UnionType:
        options = get_args(hint)
        if value is None and NoneType in options:
            return None
        [hint] = [option for option in options if option is not NoneType]
    if get_origin(hint) is tuple and isinstance(value, list):
        item = get_args(hint)[0]
        return tuple(_read(item, one) for one in value)
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, dict):
        members = {name: _read(kind, value[name]) for name, kind in _kinds(hint) if name in value}
        return hint(**members)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ValueError(f"{type(value).__name__} in place of {hint}")
    return value


@cache
def _kinds(shape: type) -> tuple[tuple[str, Any], ...]:
    """Return the names and types of a dataclass's fields."""
    hints: Mapping[str, Any] = get_type_hints(shape)
    return tuple((field.name, hints[field.name]) for field in fields(shape))
