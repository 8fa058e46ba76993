"""A recipe is checked as a whole before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import trainer
from embedder.errors import RecipeError
from trainer.recipe import Recipe, load_recipe
from trainer.schedule import rate_factor

RECIPES = sorted((Path(trainer.__file__).parent / "recipes").glob("**/*.yaml"))
QUICKSTART = next(path for path in RECIPES if path.stem == "quickstart_mobilenetv2")


def test_every_recipe_validates() -> None:
    """All recipes that are shipped are valid, and there are some."""
    assert len(RECIPES) >= 2
    for path in RECIPES:
        assert isinstance(load_recipe(path), Recipe)


def test_a_resolved_recipe_reads_back_the_same(tmp_path: Path) -> None:
    """What is stored with a run is the recipe itself."""
    recipe = load_recipe(QUICKSTART)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert load_recipe(path) == recipe


def test_overrides_reach_lists_and_read_numbers() -> None:
    """Dotted keys with list positions; 3e-4 is a number, not a text."""
    recipe = load_recipe(QUICKSTART, ["stages.0.epochs=2", "stages.0.lr=3e-5", "data.list=x.csv"])
    assert recipe.stages[0].epochs == 2
    assert recipe.stages[0].lr == 3e-5
    assert recipe.data.list == "x.csv"


def test_all_faults_are_told_at_once_with_their_paths() -> None:
    """Several mistakes are one error that names each place."""
    overrides = [
        "optimizer.wd=3",
        "stages.0.epochs=0",
        "head.scale=81312",
        "nonsense",
        "stages.9.lr=1",
    ]
    with pytest.raises(RecipeError) as caught:
        load_recipe(QUICKSTART, overrides)
    paths = {fault.path for fault in caught.value.faults}
    assert {"optimizer.wd", "stages.0.epochs", "nonsense", "stages.9.lr"} <= paths
    assert any("scale" in path for path in paths)


@pytest.mark.parametrize("content", ["", "[]", "a: [", "just text"])
def test_what_is_no_recipe_is_a_recipe_error(tmp_path: Path, content: str) -> None:
    """Empty files, lists, broken YAML: an error of the recipe, with the file's name."""
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError, match=r"broken\.yaml"):
        load_recipe(path, ["a.b=1"])


def test_a_missing_recipe_is_a_recipe_error(tmp_path: Path) -> None:
    """The name of the file is told."""
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")


def test_one_cycle_rises_and_falls_to_zero() -> None:
    """The factor rises over its part of the stage and ends at zero."""
    stage = load_recipe(QUICKSTART).stages[0]
    rise = stage.schedule.rise * stage.epochs
    assert rate_factor(stage, 0) == pytest.approx(0.04)
    assert rate_factor(stage, rise) == pytest.approx(1.0)
    assert rate_factor(stage, stage.epochs) == pytest.approx(0.0)
