"""JSON documents with a version: older ones are read, newer ones are refused by their number."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from embedder.artifacts.files import write_atomic
from embedder.errors import ArtifactDamagedError, ArtifactMismatchError, ArtifactMissingError

VERSION = "schema_version"


class FrozenModel(BaseModel):
    """Part of a document: immutable, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_Model = TypeVar("_Model", bound=BaseModel)


def read_document(
    path: Path, what: str, *, newest: int, oldest: int = 1, unversioned: int | None = None
) -> tuple[dict[str, Any], bytes]:
    """Read a JSON object and compare its ``schema_version``.

    Args:
        path: The file.
        what: What it should be, for the error: "an embedder manifest".
        newest: The newest version that is understood.
        oldest: The oldest one.
        unversioned: The version of a file that names none; ``None`` refuses it.

    Returns:
        The object, and the bytes of the file.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactDamagedError: It is not a JSON object with a version.
        ArtifactMismatchError: It has another version; the number is named.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactMissingError(path) from error
    try:
        content: dict[str, Any] = json.loads(data)
        version = content.get(VERSION, unversioned)
    except (ValueError, AttributeError, RecursionError) as error:
        raise ArtifactDamagedError(path, f"it is not {what}") from error
    if version is None:
        raise ArtifactDamagedError(path, f"it is not {what}: it has no {VERSION}")
    check_version(path, version, newest=newest, oldest=oldest)
    return content, data


def check_version(path: Path, version: object, *, newest: int, oldest: int = 1) -> None:
    """Refuse a file whose format is older or newer than what is understood.

    Raises:
        ArtifactMismatchError: It is; the number is named.
    """
    if version not in range(oldest, newest + 1):
        expected = f"{oldest} to {newest}" if oldest < newest else str(newest)
        raise ArtifactMismatchError(
            f"schema version of {path}", expected=expected, found=str(version)
        )


def validate(path: Path, schema: type[_Model], content: Mapping[str, Any]) -> _Model:
    """Turn the content of a document into its model.

    Raises:
        ArtifactDamagedError: It does not fit; the first fault is named with its place.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactDamagedError(path, f"{where}: {first['msg']}") from error


def write_document(path: Path, content: Mapping[str, Any] | BaseModel) -> bytes:
    """Write a JSON document atomically, indented for people, and return its bytes."""
    if isinstance(content, BaseModel):
        text = content.model_dump_json(indent=2)
    else:
        text = json.dumps(content, indent=2)
    data = f"{text}\n".encode()
    write_atomic(path, data)
    return data
