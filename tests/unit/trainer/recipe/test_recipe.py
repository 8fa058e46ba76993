"""A recipe is checked as a whole before anything runs."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import trainer
import trainer.recipe
from embedder.errors import RecipeError
from trainer.recipe import Recipe, load_ensemble, load_recipe
from trainer.recipe.stage import rate_factor

FOLDER = Path(trainer.__file__).parent / "recipes"
WHOLE = sorted(path for path in FOLDER.glob("**/*.yaml") if not path.stem.startswith("_"))
ENSEMBLES = [path for path in WHOLE if path.stem.startswith("ensemble")]
REFUSED = FOLDER / "seed002" / "row12.yaml"
RECIPES = [path for path in WHOLE if path not in {*ENSEMBLES, REFUSED}]
SYSTEMS = [path for path in RECIPES if path.parent != FOLDER]
QUICKSTART = next(path for path in RECIPES if path.stem == "quickstart_mobilenetv2")


def test_every_recipe_validates() -> None:
    """All recipes that are shipped are valid, and there are some."""
    assert len(RECIPES) >= 2
    for path in RECIPES:
        assert isinstance(load_recipe(path), Recipe)


def test_every_system_of_the_seeds_has_its_recipe() -> None:
    """26 single systems and 6 ensembles of them validate, and no two share a name."""
    names = {load_recipe(path).name for path in SYSTEMS}
    assert len(names) == len(SYSTEMS) == 26
    joined = {path: load_ensemble(path)[1] for path in ENSEMBLES}
    assert [len(members) for members in joined.values()] == [2, 3, 4, 4, 4, 6]
    assert {name for members in joined.values() for name in members} <= names


def test_row_12_is_refused_with_its_reason() -> None:
    """ArcFace with s = C - 1 cannot train, and nothing else is wrong with it."""
    with pytest.raises(RecipeError, match=r"head\.arcface\.scale.*cannot be trained") as caught:
        load_recipe(REFUSED)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize("member", ["row12.yaml", "none.yaml", "row04.yaml"])
def test_an_ensemble_of_faulty_or_doubled_members_is_refused(tmp_path: Path, member: str) -> None:
    """A member that is refused, missing or there twice is a fault of the ensemble."""
    members = [str(FOLDER / "seed002" / name) for name in ("row04.yaml", member)]
    path = tmp_path / "ensemble.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "members": members}))
    with pytest.raises(RecipeError):
        load_ensemble(path)


def test_a_recipe_says_only_in_what_it_differs(tmp_path: Path) -> None:
    """Mappings merge, lists of equal length merge item by item, another kind replaces."""
    path = tmp_path / "mine.yaml"
    content = {
        "extends": str(QUICKSTART),
        "name": "mine",
        "stages": [{"epochs": 3}],
        "head": {"kind": "adacos", "variant": "semi"},
    }
    path.write_text(yaml.safe_dump(content))
    mine, theirs = load_recipe(path), load_recipe(QUICKSTART)
    assert mine.stages[0] == theirs.stages[0].model_copy(update={"epochs": 3})
    assert mine.head.kind == "adacos"
    assert mine.network == theirs.network


@pytest.mark.parametrize("other", ["a.yaml", "b.yaml", "none.yaml", ["b.yaml"]])
def test_recipes_that_extend_themselves_or_nothing_are_refused(
    tmp_path: Path, other: object
) -> None:
    """A circle, a missing file and a list of files are faults, not endless."""
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"extends": other}))
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(RecipeError, match=r"extends|no such file"):
        load_recipe(tmp_path / "a.yaml")


def test_the_three_stages_of_seed_003_are_its_table() -> None:
    """Sides and epochs of each network, and five folds among the six."""
    table = {
        "b7": ((256, 10), (512, 13), (672, 1)),
        "b6": ((256, 10), (512, 17), (768, 1)),
        "b5": ((256, 10), (576, 16), (768, 1)),
        "b4": ((256, 10), (704, 16), (768, 1)),
        "b3": ((256, 10), (544, 18), (1024, 1)),
        "resnest101": ((256, 10), (576, 16), (768, 1)),
    }
    found = {path.stem: load_recipe(path) for path in SYSTEMS if path.parent.name == "seed003"}
    sizes = {n: tuple((s.side, s.last_epoch) for s in r.stages) for n, r in found.items()}
    assert sizes == table
    folds = {getattr(recipe.data.validation, "fold", None) for recipe in found.values()}
    assert folds == {0, 1, 2, 3, 4}


def test_the_rates_of_seed_003_are_those_of_its_source() -> None:
    """A tenth in the first epoch, then a cosine by epochs towards an end that is not reached."""
    for name, first, planned in (("b7", 1e-3, 40), ("b3", 1e-3, 50), ("resnest101", 3e-4, 40)):
        stages = load_recipe(FOLDER / "seed003" / f"{name}.yaml").stages
        rates = [
            [s.lr * rate_factor(s, epoch + 0.5) for epoch in range(s.last_epoch)] for s in stages
        ]
        assert rates[0][:2] == pytest.approx([first / 10, first])
        assert rates[1][:2] == pytest.approx([1e-4, 1e-3])
        fallen = (stages[1].last_epoch - 2) / (planned - 1)
        assert rates[1][-1] == pytest.approx(1e-3 * (1 + math.cos(math.pi * fallen)) / 2)
        assert rates[2] == pytest.approx([5e-5])
        lists = [stage.list for stage in stages]
        assert lists == ["train.csv", "train_gldv2x.csv", "train_gldv2x.csv"]


def test_the_rates_of_seed_002_are_its_table() -> None:
    """Row 9 goes 1e-5 -> 4e-4 -> 1e-5, row 1 1e-5 -> 5e-5 -> 1e-5, row 15 falls from 1e-3."""
    expected = {"row09": (1e-5, 4e-4, 1e-5), "row01": (1e-5, 5e-5, 1e-5), "row15": (1e-3, 1e-3, 0)}
    for row, rates in expected.items():
        stage = load_recipe(FOLDER / "seed002" / f"{row}.yaml").stages[0]
        steps = [stage.lr * rate_factor(stage, n / 10) for n in range(stage.epochs * 10 + 1)]
        assert (steps[0], max(steps), steps[-1]) == pytest.approx(rates)


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


def test_what_came_later_leaves_runs_from_before_resumable() -> None:
    """Fields that older runs could not name count only where they say something."""
    plain = yaml.safe_load(load_recipe(QUICKSTART).outcome())
    assert "networks" not in plain
    assert "frozen" not in plain["network"]
    assert "cutout_fill" not in plain["augment"]
    assert "label_smoothing" not in plain["head"]
    assert "steps" not in plain["stages"][0]
    cosine = "stages.0.schedule={kind: cosine}"
    fallen = yaml.safe_load(load_recipe(QUICKSTART, [cosine]).outcome())
    assert "by_epoch" not in fallen["stages"][0]["schedule"]
    told = load_recipe(QUICKSTART, ["networks=2", "network.frozen=[features.0]"])
    assert yaml.safe_load(told.outcome())["networks"] == 2
    assert yaml.safe_load(told.outcome())["network"]["frozen"] == ["features.0"]


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


def test_a_linear_neck_need_not_name_its_kind() -> None:
    """A neck without a kind is linear, and its faults are found there."""
    assert load_recipe(QUICKSTART).network.neck.kind == "linear"
    with pytest.raises(RecipeError) as caught:
        load_recipe(QUICKSTART, ["network.neck={width: 3}"])
    assert [fault.path for fault in caught.value.faults] == ["network.neck.linear.width"]


def test_the_face_names_what_it_shows() -> None:
    """``__all__`` is sorted, and holds every public class and function of the face."""
    shown = {
        name
        for name, value in vars(trainer.recipe).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert sorted(shown, key=str.lower) == sorted(trainer.recipe.__all__, key=str.lower)
    assert trainer.recipe.__all__ == sorted(trainer.recipe.__all__)


def test_recipes_are_read_without_torch() -> None:
    """A faulty recipe is refused before the second that torch takes to load."""
    code = "import sys, trainer.recipe; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
