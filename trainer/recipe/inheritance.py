"""YAML files that contain only their differences from another one.

``extends: other.yaml`` names a file relative to the one that it is in, which may extend a third.
The content of a file is merged over that of the one it extends:

- a mapping is merged key by key, unless both name a ``kind`` and these differ: then it replaces;
- a list of mappings is merged item by item with one of the same length;
- anything else replaces.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from embedder.errors import Fault, RecipeError


def read_inherited(path: Path) -> Any:  # noqa: ANN401 - any YAML value
    """Read a YAML file with those that it extends.

    Returns:
        The merged content, without ``extends``.

    Raises:
        RecipeError: A file is missing or not YAML, or a file extends itself.
    """
    return _read(path, ())


def merge(below: Any, above: Any) -> Any:  # noqa: ANN401 - any YAML value
    """Merge one YAML value over another.

    >>> merge({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 5}})
    {'a': {'x': 1, 'y': 5}, 'b': 3}
    >>> merge({"kind": "gem", "p": 3}, {"kind": "average"})
    {'kind': 'average'}
    >>> merge([{"side": 64, "epochs": 2}], [{"epochs": 3}])
    [{'side': 64, 'epochs': 3}]
    """
    if isinstance(below, dict) and isinstance(above, dict):
        if "kind" in above and above["kind"] != below.get("kind", above["kind"]):
            return above
        return below | {key: merge(below.get(key, value), value) for key, value in above.items()}
    if _mappings(below) and _mappings(above) and len(below) == len(above):
        return [merge(*pair) for pair in zip(below, above, strict=True)]
    return above


def _mappings(value: Any) -> bool:  # noqa: ANN401 - any YAML value
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _read(path: Path, extending: tuple[Path, ...]) -> Any:  # noqa: ANN401 - any YAML value
    here = path.resolve()
    if here in extending:
        raise RecipeError(str(extending[0]), (Fault("extends", f"{path} extends itself"),))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(str(path), (Fault("file", "there is no such file"),)) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(str(path), (Fault("file", f"it is not YAML: {error}"),)) from error
    if not isinstance(content, dict) or "extends" not in content:
        return content
    other = content.pop("extends")
    if not isinstance(other, str):
        raise RecipeError(str(path), (Fault("extends", "it must name one file"),))
    return merge(_read(path.parent / other, (*extending, here)), content)
