"""Every system of the seeds trains, exports, builds and predicts: tiny, by its own recipe.

Only sizes are overridden: picture sides, steps, parts of the split, and no pretrained weights.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import index.__main__
import trainer
import trainer.__main__
from embedder.errors import RecipeError
from embedder.manifest import read_manifest
from tests.factories import photographs
from trainer.recipe import CountsRecipe, FoldsRecipe, load_ensemble, load_recipe

FOLDER = Path(trainer.__file__).parent / "recipes"
PROJECTS = sorted(FOLDER.glob("seed*"))
SIDE = 96

ONE_OF_EACH = (
    "seed003/b3",  # EfficientNet; sub-center ArcFace
    "seed003/resnest101",  # ResNeSt
    "seed002/row03",  # ResNetV2; AdaCos fixed
    "seed002/row07",  # Inception-ResNetV2; AdaCos semi
    "seed002/row09",  # Xception
    "seed002/row10",  # InceptionV3
    "seed002/row11",  # DenseNet
    "seed000/resnet50",  # ResNet; softmax
    "seed004/scratch",  # convolutions from scratch
)
"""A backbone of each family, the quickest one, and every head of the seeds."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw photographs of four landmarks."""
    return photographs(tmp_path_factory.mktemp("data"), landmarks=4, views=4)


def overrides(path: Path) -> list[str]:
    """Word what makes a recipe tiny: a few steps in each stage."""
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


def answer(path: Path, data: Path, folder: Path) -> Path:
    """Take a system from photographs to answers; return its embedder."""
    train(path, data, folder / "run")
    embedder = folder / "embedder"
    exported = ["export", str(folder / "run"), "--out", str(embedder)]
    assert trainer.__main__.main(exported) == 0
    shutil.rmtree(folder / "run")
    build_and_predict(embedder, data, folder)
    return embedder


def join(path: Path, data: Path, folder: Path, parts: dict[str, Path]) -> str:
    """Join embedders by the recipe of an ensemble and ask the whole; return its name."""
    ensemble, names = load_ensemble(path)
    given = [str(parts[name]) for name in reversed(names)]
    embedder = folder / ensemble.name / "embedder"
    exported = ["export", "--ensemble", str(path), *given, "--out", str(embedder)]
    assert trainer.__main__.main(exported) == 0
    manifest, _ = read_manifest(embedder)
    assert [member.name for member in manifest.members] == list(names)
    build_and_predict(embedder, data, folder / ensemble.name)
    return ensemble.name


def run_project(project: Path, data: Path, folder: Path) -> tuple[set[str], set[str], list[str]]:
    """Run every system of a project and join its ensembles.

    Returns:
        The names of the systems and of the ensembles that answered, and which recipes are refused.
    """
    paths = [path for path in sorted(project.glob("*.yaml")) if path.stem[0] != "_"]
    ensembles = [path for path in paths if path.stem.startswith("ensemble")]
    parts: dict[str, Path] = {}
    refused = []
    for path in paths:
        if path in ensembles:
            continue
        try:
            name = load_recipe(path).name
        except RecipeError:
            refused.append(path.stem)
            continue
        parts[name] = answer(path, data, folder / name)
    return set(parts), {join(path, data, folder, parts) for path in ensembles}, refused


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_system_of_the_seeds_works_from_photographs_to_answers(
    name: str, data: Path, tmp_path: Path
) -> None:
    """Train, export, build, predict by one recipe."""
    shutil.rmtree(answer(FOLDER / f"{name}.yaml", data, tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_every_system_of_the_seeds_works_and_joins_its_ensembles(
    data: Path, tmp_path: Path
) -> None:
    """26 systems and 6 ensembles of them answer; row 12 is refused."""
    answered, joined, refused = set(), set(), []
    for project in PROJECTS:
        with TemporaryDirectory(dir=tmp_path) as folder:
            found = run_project(project, data, Path(folder))
        answered |= found[0]
        joined |= found[1]
        refused += found[2]
    assert (len(answered), len(joined), refused) == (26, 6, ["row12"])
