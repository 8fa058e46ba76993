"""Recipes are read from YAML files and command-line overrides; all faults are reported at once.

``extends: other.yaml`` names a file relative to the one that it is in, which may extend a third.
The content of a file is merged over that of the one it extends:

- a mapping is merged key by key, unless both name a ``kind`` and these differ: then it replaces;
- a list of mappings is merged item by item with one of the same length;
- anything else replaces.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from embedder.errors import Fault, RecipeError
from trainer.recipe.recipe import EnsembleRecipe, Recipe

_Model = TypeVar("_Model", bound=BaseModel)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate the recipe of a run.

    Args:
        path: The YAML file; it may extend others.
        overrides: ``key=value`` with dotted keys, ``stages.0.epochs=2``, applied before
            validation; values are YAML.

    Raises:
        RecipeError: Every fault of the file and the overrides.
    """
    content = _read(path)
    faults = [fault for text in overrides if (fault := _override(content, text))]
    return validated(Recipe, content, str(path), faults)


def load_ensemble(path: Path) -> tuple[EnsembleRecipe, tuple[str, ...]]:
    """Read and validate the recipe of an ensemble, with those of its members.

    Returns:
        The recipe, and its members' names.

    Raises:
        RecipeError: Every fault of the file, or of a member's.
    """
    recipe = validated(EnsembleRecipe, _read(path), str(path))
    names = tuple(load_recipe(path.parent / member).name for member in recipe.members)
    if len(set(names)) < len(names):
        raise RecipeError(str(path), (Fault("members", "two of them have the same name"),))
    return recipe, names


def validated(
    model: type[_Model], content: object, source: str, faults: Sequence[Fault] = ()
) -> _Model:
    """Validate content as a recipe of some kind.

    Raises:
        RecipeError: Every fault, those found before among them; it names ``source``.
    """
    try:
        recipe = model.model_validate(content)
    except ValidationError as error:
        places = [(".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors()]
        found = [Fault(place or "recipe", reason) for place, reason in places]
        raise RecipeError(source, (*faults, *found)) from error
    if faults:
        raise RecipeError(source, tuple(faults))
    return recipe


def _override(content: Any, text: str) -> Fault | None:  # noqa: ANN401 - any YAML value
    """Apply one ``key=value`` to parsed YAML, in place; return what is wrong with it."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        return Fault(text, "an override is written key=value")
    *parents, last = key.split(".")
    try:
        for part in parents:
            content = (
                content[int(part)] if isinstance(content, list) else content.setdefault(part, {})
            )
        content[int(last) if isinstance(content, list) else last] = _scalar(value)
    except (TypeError, ValueError, IndexError, AttributeError, yaml.YAMLError):
        return Fault(key, "there is no such place in the recipe")
    return None


def _scalar(value: str) -> Any:  # noqa: ANN401 - any YAML value
    """Parse a YAML value; unlike YAML 1.1, ``3e-4`` is a number."""
    try:
        return float(value) if "e" in value.lower() else yaml.safe_load(value)
    except ValueError:
        return yaml.safe_load(value)


def _merge(below: Any, above: Any) -> Any:  # noqa: ANN401 - any YAML value
    """Merge one YAML value over another.

    >>> _merge({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 5}})
    {'a': {'x': 1, 'y': 5}, 'b': 3}
    >>> _merge({"kind": "gem", "p": 3}, {"kind": "average"})
    {'kind': 'average'}
    >>> _merge([{"side": 64, "epochs": 2}], [{"epochs": 3}])
    [{'side': 64, 'epochs': 3}]
    """
    if isinstance(below, dict) and isinstance(above, dict):
        if "kind" in above and above["kind"] != below.get("kind", above["kind"]):
            return above
        return below | {key: _merge(below.get(key, value), value) for key, value in above.items()}
    if _mappings(below) and _mappings(above) and len(below) == len(above):
        return [_merge(*pair) for pair in zip(below, above, strict=True)]
    return above


def _mappings(value: Any) -> bool:  # noqa: ANN401 - any YAML value
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _read(path: Path, extending: tuple[Path, ...] = ()) -> Any:  # noqa: ANN401 - any YAML value
    """Read a YAML file merged over those that it extends, without ``extends``."""
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
    return _merge(_read(path.parent / other, (*extending, here)), content)
