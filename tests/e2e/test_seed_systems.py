"""Every system of the seeds trains, exports, builds and predicts: tiny, by its own recipe.

Only sizes are overridden: picture sides, steps, parts of the split, and no pretrained weights.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

import index.__main__
import trainer
import trainer.__main__
from embedder.errors import RecipeError
from embedder.manifest import read_manifest
from tests.factories import photographs
from trainer.recipe import CountsRecipe, FoldsRecipe, load_ensemble, load_recipe

FOLDER = Path(trainer.__file__).parent / "recipes"
WHOLE = [path for path in sorted(FOLDER.glob("seed*/*.yaml")) if not path.stem.startswith("_")]
ENSEMBLES = [path for path in WHOLE if path.stem.startswith("ensemble")]
SINGLE = [path for path in WHOLE if path not in ENSEMBLES]
SIDE = 96

ONE_OF_EACH = ("seed003/b3", "seed002/row09", "seed000/resnet50", "seed004/scratch")
"""A backbone of each family that is quick, and every head of the seeds."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw photographs of four landmarks."""
    return photographs(tmp_path_factory.mktemp("data"), landmarks=4, views=4)


def overrides(path: Path) -> list[str]:
    """Word what makes a recipe tiny: two steps in each stage."""
    recipe = load_recipe(path)
    small = {"precision": "f32", "network.pretrained": "none", "data.workers": 0}
    small["embed.side"] = SIDE
    for number in range(len(recipe.stages)):
        sizes = {"side": SIDE, "epochs": 1, "stop_at_epoch": "null", "batch_size": 4}
        small |= {f"stages.{number}.{key}": value for key, value in sizes.items()}
    if isinstance(recipe.data.validation, FoldsRecipe):
        small["data.validation.every"] = 1
    if isinstance(recipe.data.validation, CountsRecipe):
        parts = {"learned": 10, "kept_back": 3, "tested": 3}
        small |= {f"data.validation.{key}": value for key, value in parts.items()}
    return [text for key, value in small.items() for text in ("--set", f"{key}={value}")]


def train(path: Path, data: Path, run: Path) -> None:
    """Train a system."""
    arguments = ["--recipe", str(path), "--data", str(data), "--out", str(run)]
    assert trainer.__main__.main(["train", *arguments, *overrides(path)]) == 0


def build_and_predict(embedder: Path, data: Path, folder: Path) -> None:
    """Index the photographs and ask for each of them; every one is answered."""
    made = ["--embedder", str(embedder), "--precision", "f32"]
    store = ["--store", str(folder / "store")]
    assert index.__main__.main(["build", *made, *store, "--data", str(data)]) == 0
    answers = folder / "answers.csv"
    asked = ["--pictures", str(data), "--out", str(answers)]
    assert index.__main__.main(["predict", *made, *store, *asked]) == 0
    with answers.open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 16


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_system_of_the_seeds_works_from_photographs_to_answers(
    name: str, data: Path, tmp_path: Path
) -> None:
    """Train, export, build, predict by one recipe."""
    train(FOLDER / f"{name}.yaml", data, tmp_path / "run")
    embedder = tmp_path / "embedder"
    exported = ["export", str(tmp_path / "run"), "--out", str(embedder)]
    assert trainer.__main__.main(exported) == 0
    build_and_predict(embedder, data, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_every_system_of_the_seeds_works_and_joins_its_ensembles(
    data: Path, tmp_path: Path
) -> None:
    """26 systems and 6 ensembles of them answer; row 12 is refused."""
    answered, refused, joined = [], [], []
    for path in SINGLE:
        try:
            name = load_recipe(path).name
        except RecipeError:
            refused.append(path.stem)
            continue
        run, embedder, folder = (tmp_path / name / part for part in ("run", "embedder", "index"))
        folder.mkdir(parents=True)
        train(path, data, run)
        assert trainer.__main__.main(["export", str(run), "--out", str(embedder)]) == 0
        build_and_predict(embedder, data, folder)
        shutil.rmtree(run)
        answered.append(name)
    for path in ENSEMBLES:
        ensemble, names = load_ensemble(path)
        embedder, folder = (tmp_path / ensemble.name / part for part in ("embedder", "index"))
        folder.mkdir(parents=True)
        parts = [str(tmp_path / name / "embedder") for name in reversed(names)]
        exported = ["export", "--ensemble", str(path), *parts, "--out", str(embedder)]
        assert trainer.__main__.main(exported) == 0
        manifest, _ = read_manifest(embedder)
        assert [member.name for member in manifest.members] == list(names)
        build_and_predict(embedder, data, folder)
        shutil.rmtree(embedder)
        joined.append(ensemble.name)
    assert (len(set(answered)), len(set(joined)), refused) == (26, 6, ["row12"])
