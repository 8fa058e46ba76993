"""Recipes are read from YAML files and command-line overrides; all faults are reported at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from embedder.errors import Fault, RecipeError
from trainer.recipe.inheritance import read_inherited
from trainer.recipe.recipe import EnsembleRecipe, Recipe

_Model = TypeVar("_Model", bound=BaseModel)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate the recipe of a run.

    Args:
        path: The YAML file; it may extend others, see :mod:`trainer.recipe.inheritance`.
        overrides: ``key=value`` with dotted keys, ``stages.0.epochs=2``, applied before
            validation; values are YAML.

    Raises:
        RecipeError: Every fault of the file and the overrides.
    """
    content = read_inherited(path)
    faults = [fault for text in overrides if (fault := _override(content, text))]
    return validated(Recipe, content, str(path), faults)


def load_ensemble(path: Path) -> tuple[EnsembleRecipe, tuple[str, ...]]:
    """Read and validate the recipe of an ensemble, with those of its members.

    Returns:
        The recipe, and its members' names.

    Raises:
        RecipeError: Every fault of the file, or of a member's.
    """
    recipe = validated(EnsembleRecipe, read_inherited(path), str(path))
    names = tuple(load_recipe(path.parent / member).name for member in recipe.members)
    if len(set(names)) < len(names):
        raise RecipeError(str(path), (Fault("members", "two of them have the same name"),))
    return recipe, names


def validated(
    model: type[_Model], content: object, source: str, faults: Sequence[Fault] = ()
) -> _Model:
    """Validate a recipe of some kind.

    Args:
        model: The kind.
        content: Mappings, lists and values.
        source: Where the content comes from, for the error.
        faults: Those that were found before.

    Raises:
        RecipeError: Every fault.
    """
    try:
        recipe = model.model_validate(content)
    except ValidationError as error:
        found = [
            Fault(".".join(map(str, fault["loc"])) or "recipe", fault["msg"])
            for fault in error.errors()
        ]
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
