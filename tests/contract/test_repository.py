"""What lies around the program: recipes, verbs, locks."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.conftest import ROOT
from trainer.recipe import Recipe, load_recipe

REFUSED = {"row12"}  # kept to show that it is refused
RECIPES = sorted(
    path
    for path in (ROOT / "trainer" / "recipes").rglob("*.yaml")
    if not path.stem.startswith(("_", "ensemble")) and path.stem not in REFUSED
)
VERBS = {"setup", "demo", "test", "test-all", "check", "format", "lint", "types", "imports"}
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_validates_and_is_named_like_its_file(path: object) -> None:
    """Every recipe that is shipped can be run by the name it gives itself."""
    recipe = load_recipe(path)  # type: ignore[arg-type] (parametrize gives a Path)
    assert isinstance(recipe, Recipe)


def test_there_are_recipes() -> None:
    """The parametrized test above has something to look at."""
    assert {"demo", "quickstart_mobilenetv2"} <= {path.stem for path in RECIPES}


def test_the_makefile_has_every_verb() -> None:
    """`make` lists what the README and CI call, and can plan each of them."""
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"make ([a-z-]+)", listed)) >= VERBS
    for verb in sorted(VERBS):
        subprocess.run(["make", "-n", verb], cwd=ROOT, capture_output=True, check=True)


def test_ci_runs_the_tests_and_the_checks() -> None:
    """The gate calls the same verbs as a developer, and leaves no test out."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^make test-all\b", script, re.MULTILINE)
    assert re.search(r"^make check\b", script, re.MULTILINE)
    assert "set -euo pipefail" in script


def test_locks_are_pinned_hashed_and_name_no_host() -> None:
    """Every package of every lock has one version and a hash, and comes from any index."""
    locks = [path for path in LOCKS if path.stem != "constraints"]
    assert {path.stem for path in locks} >= {"dev", "service"}
    for path in locks:
        text = path.read_text(encoding="utf-8")
        packages = re.findall(r"^(\S+)", re.sub(r"^ .*$", "", text, flags=re.MULTILINE), re.M)
        assert len(packages) > 10
        assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", package) for package in packages)
        assert text.count("==") <= text.count("--hash=sha256:")
        assert "://" not in text
        assert "--index" not in text


def test_the_locks_agree_with_each_other() -> None:
    """What is tested is what is served."""

    def versions(name: str) -> set[str]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        return set(re.findall(r"^\S+==\S+", text, re.MULTILINE))

    assert versions("service") <= versions("dev")
    assert versions("service")
