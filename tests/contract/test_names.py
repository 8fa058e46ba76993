"""How the program is named and cut: rooms, modules, faces, words, and reasons given."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from types import ModuleType
from typing import Any

import pytest

from cairn_client import errors as client_errors
from embedder import errors
from tests.conftest import ROOT
from tests.contract.modules import MODULES, PACKAGES, Module

VAGUE = {"utils", "util", "common", "helpers", "helper", "base", "core", "manager", "misc"}
FACES = [module for module in MODULES if "__all__" in module.source]
SUPPRESSION = re.compile(
    r"#\s*(?:noqa|type: ignore)\b"
    r"(?P<codes>: ?[A-Z]+\d+(?:, ?[A-Z]+\d+)*|\[[a-z, -]+\])?(?P<reason>.*)"
)


def own_names(module: Module) -> set[str]:
    """Give the public names that a module binds at its top, imports included."""
    names: set[str] = set()
    for node in ast.parse(module.source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return {name for name in names if not name.startswith("_")} - {"annotations"}


def test_every_room_has_modules() -> None:
    """All other tests here go through MODULES, so it must not be empty."""
    assert {module.name.split(".")[0] for module in MODULES} == set(PACKAGES)
    assert len(MODULES) > 30


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_module_says_why_it_exists(module: Module) -> None:
    """Its docstring begins with a sentence."""
    docstring = ast.get_docstring(ast.parse(module.source))
    assert docstring
    assert docstring.split("\n")[0].rstrip()[-1] in ".:,;?"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_module_is_named_for_what_it_is(module: Module) -> None:
    """No drawer for leftovers, and none with the name of a standard module."""
    last = module.name.split(".")[-1]
    assert last not in VAGUE
    # `service.http` is the design's name for its room; imports are absolute, so it hides nothing.
    assert last in ("__main__", "http") or last not in sys.stdlib_module_names


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_no_module_takes_what_another_keeps_to_itself(module: Module) -> None:
    """A name with an underscore is not imported from one of our modules into another."""
    taken = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(module.source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert taken == []


@pytest.mark.parametrize("module", FACES, ids=lambda module: module.name)
def test_a_face_shows_what_it_says(module: Module) -> None:
    """``__all__`` is sorted and holds exactly the public names of its module."""
    shown = importlib.import_module(module.name).__all__
    assert set(shown) == own_names(module)
    assert len(shown) == len(set(shown))


def test_modules_and_functions_are_short() -> None:
    """No module has more than 400 lines; nine functions of ten have at most 25."""
    long = [m.name for m in MODULES if len(m.source.splitlines()) > 400]
    lengths = sorted(
        (node.end_lineno or 0) - node.lineno + 1
        for module in MODULES
        for node in ast.walk(ast.parse(module.source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert long == []
    assert len(lengths) > 500
    assert lengths[len(lengths) * 9 // 10] <= 25


def test_there_are_faces() -> None:
    """At least one package declares what is visible."""
    assert FACES


def test_every_suppression_has_its_reason() -> None:
    """A ``noqa`` or ``type: ignore`` names its rule and says why, on its line."""
    sources = [*ROOT.glob("*.py"), *(ROOT / "tests").rglob("*.py"), *(m.path for m in MODULES)]
    found = [
        (f"{path.relative_to(ROOT)}:{number}", match)
        for path in sources
        if path != ROOT / "tests" / "contract" / "test_names.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (match := SUPPRESSION.search(line))
    ]
    assert found
    bare = [
        where
        for where, match in found
        if not match["codes"] or len(match["reason"].strip(" ()#-")) < 4
    ]
    assert bare == []


def exit_codes(root: Any) -> dict[type[Exception], int]:
    """Give the exit codes of a tree of errors, those of its root's module only."""
    below = [root]
    for error in below:
        below += [sub for sub in error.__subclasses__() if sub.__module__ == root.__module__]
    return {error: error.exit_code for error in below}


@pytest.mark.parametrize(
    ("root", "module"), [(errors.CairnError, errors), (client_errors.ServiceError, client_errors)]
)
def test_the_error_tree_is_drawn_in_full(root: type[Exception], module: ModuleType) -> None:
    """Every error stands in the tree at the top of its file, with its exit code."""
    tree = (module.__doc__ or "").splitlines()
    ours = exit_codes(root)
    assert len(ours) > (10 if module is errors else 4)
    for error, exit_code in ours.items():
        line = next((line for line in tree if re.search(rf"\b{error.__name__}\b", line)), "")
        assert line, f"{error.__name__} is not in the tree"
        if error.__bases__ == (root,) or module is client_errors:
            assert re.search(rf"\b{exit_code}\b", line), error.__name__


def test_every_kind_of_error_has_an_exit_code_of_its_own() -> None:
    """Those of the client too, which ``cairn-serve predict`` passes on."""
    kinds = [
        exit_code
        for error, exit_code in exit_codes(errors.CairnError).items()
        if error.__bases__ == (errors.CairnError,)
    ]
    kinds += set(exit_codes(client_errors.ServiceError).values())
    assert len(kinds) > 10
    assert len(kinds) == len(set(kinds))
