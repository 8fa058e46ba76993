"""Every system of the seeds trains, exports, builds and predicts: tiny, by its own recipe.

Only sizes are overridden: picture sides, steps, parts of the split; and no list, no pretrained
weights.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

import index.cli
import trainer
import trainer.cli
from embedder.errors import RecipeError
from embedder.manifest import read_manifest
from photographs.prepare.split import CountsRecipe, FoldsRecipe
from tests.factories import photographs
from trainer.recipe import load_ensemble, load_recipe

FOLDER = Path(trainer.__file__).parent / "recipes"
ENSEMBLES = sorted(FOLDER.glob("seed*/ensemble*.yaml"))
SINGLE = [
    path
    for path in sorted(FOLDER.glob("seed*/*.yaml"))
    if not path.stem.startswith(("_", "ensemble"))
]
SIDE = 96
WORKERS = min(os.cpu_count() or 1, 4)

QUICK = ("seed000/resnet50", "seed004/scratch")
"""Two that take seconds; the slow test runs all others in as many processes as there are cores."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw photographs of four landmarks."""
    return photographs(tmp_path_factory.mktemp("data"), landmarks=4, views=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Hold what the systems make; some gigabytes, which do not outlive the tests."""
    with TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def answered() -> dict[str, Path]:
    """Remember the embedder of each system that answered, so that none runs twice."""
    return {}


def overrides(path: Path) -> list[str]:
    """Word what makes a recipe tiny: a few steps in each stage."""
    recipe = load_recipe(path)
    small = {"precision": "f32", "network.pretrained": "none", "data.workers": 0}
    small["embed.side"] = SIDE
    for number in range(len(recipe.stages)):
        sizes = {"side": SIDE, "epochs": 1, "stop_at_epoch": "null", "batch_size": 4}
        sizes["list"] = "null"  # the folders of these photographs have no lists
        small |= {f"stages.{number}.{key}": value for key, value in sizes.items()}
    if isinstance(recipe.data.validation, FoldsRecipe):
        small["data.validation.every"] = 1
    if isinstance(recipe.data.validation, CountsRecipe):
        parts = {"train": 10, "validation": 3, "test": 3}
        small |= {f"data.validation.{key}": value for key, value in parts.items()}
    return [text for key, value in small.items() for text in ("--set", f"{key}={value}")]


def train(path: Path, data: Path, run: Path) -> None:
    """Train a system."""
    arguments = ["--recipe", str(path), "--data", str(data), "--out", str(run)]
    assert trainer.cli.main(["train", *arguments, *overrides(path)]) == 0


def build_and_predict(embedder: Path, data: Path, folder: Path) -> None:
    """Index the photographs and ask for each of them; every one is answered."""
    made = ["--embedder", str(embedder), "--precision", "f32"]
    store = ["--store", str(folder / "store")]
    assert index.cli.main(["build", *made, *store, "--data", str(data)]) == 0
    answers = folder / "answers.csv"
    asked = ["--pictures", str(data), "--out", str(answers)]
    assert index.cli.main(["predict", *made, *store, *asked]) == 0
    with answers.open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 16


def answer(path: Path, data: Path, folder: Path) -> Path:
    """Take a system from photographs to answers; return its embedder."""
    train(path, data, folder / "run")
    embedder = folder / "embedder"
    exported = ["export", str(folder / "run"), "--out", str(embedder)]
    assert trainer.cli.main(exported) == 0
    shutil.rmtree(folder / "run")
    build_and_predict(embedder, data, folder)
    return embedder


def join(path: Path, data: Path, folder: Path, parts: dict[str, Path]) -> str:
    """Join embedders by the recipe of an ensemble and ask the whole; return its name."""
    ensemble, names = load_ensemble(path)
    given = [str(parts[name]) for name in reversed(names)]
    embedder = folder / ensemble.name / "embedder"
    exported = ["export", "--ensemble", str(path), *given, "--out", str(embedder)]
    assert trainer.cli.main(exported) == 0
    manifest, _ = read_manifest(embedder)
    assert [member.name for member in manifest.members] == list(names)
    build_and_predict(embedder, data, folder / ensemble.name)
    return ensemble.name


def use_one_thread() -> None:
    """Leave the other cores to the other workers."""
    torch.set_num_threads(1)


@pytest.mark.parametrize("recipe", QUICK)
def test_a_system_of_the_seeds_works_from_photographs_to_answers(
    recipe: str, data: Path, folder: Path, answered: dict[str, Path]
) -> None:
    """Train, export, build, predict by one recipe."""
    path = FOLDER / f"{recipe}.yaml"
    name = load_recipe(path).name
    answered[name] = answer(path, data, folder / name)


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.timeout(2400)
def test_every_system_of_the_seeds_works_and_joins_its_ensembles(
    data: Path, folder: Path, answered: dict[str, Path]
) -> None:
    """26 systems and 6 ensembles of them answer; row 12 is refused."""
    systems, refused = {}, []
    for path in SINGLE:
        try:
            systems[load_recipe(path).name] = path
        except RecipeError:
            refused.append(path.stem)
    members = {name for path in ENSEMBLES for name in load_ensemble(path)[1]}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, spawn, initializer=use_one_thread) as pool:
        tasks = {
            name: pool.submit(answer, path, data, folder / name)
            for name, path in systems.items()
            if name not in answered
        }
        for name, task in tasks.items():
            answered[name] = task.result()
            if name not in members:
                shutil.rmtree(answered[name])
        joining = partial(join, data=data, folder=folder, parts=answered)
        joined = list(pool.map(joining, ENSEMBLES))
    assert (len(answered), len(set(joined)), refused) == (26, 6, ["row12"])
    assert answered.keys() == systems.keys()
