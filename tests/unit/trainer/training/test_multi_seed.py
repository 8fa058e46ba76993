"""The networks of a multi-seed recipe are trained apart and exported as one embedder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from embedder.embedder import Embedder
from embedder.errors import RecipeError, TrainingError
from index.ranking.ranking import Ranking
from photographs import Photograph, open_data
from tests.factories import photographs, view_bytes
from tests.recipes import tiny_recipe
from trainer.export.export import export, export_networks
from trainer.recipe import Recipe, load_recipe
from trainer.training.multi_seed import train_networks


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Photograph]:
    """Make a few photographs."""
    return open_data(photographs(tmp_path_factory.mktemp("data"), landmarks=3)).gallery()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Ask for two networks of a very short training."""
    path = tiny_recipe(tmp_path_factory.mktemp("recipe") / "tiny.yaml")
    whole = load_recipe(path, ["networks=2", "seed=3"])
    stage = whole.stages[0].model_copy(update={"stop_at_epoch": 1})
    return whole.model_copy(update={"stages": (stage,)})


@pytest.fixture(scope="module")
def run(
    pictures: list[Photograph], recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Train them."""
    out = tmp_path_factory.mktemp("several") / "run"
    train_networks(recipe, pictures, out)
    return out


def test_no_two_networks_of_any_two_seeds_have_one_seed(recipe: Recipe) -> None:
    """So runs of different seeds share no network."""
    seeds = [
        own.seed
        for seed in range(5)
        for own in recipe.model_copy(update={"seed": seed}).per_network()
    ]
    assert len(seeds) == 10
    assert len(set(seeds)) == 10


def test_each_network_has_a_run_of_its_own(run: Path) -> None:
    """The report of the whole tells of each."""
    report = json.loads((run / "report.json").read_text())
    assert [each["name"] for each in report["networks"]] == ["tiny-1", "tiny-2"]
    for each in report["networks"]:
        alone = json.loads((run / each["name"] / "report.json").read_text())
        assert alone["validation_gap"] == each["validation_gap"]


@pytest.mark.slow
def test_one_embedder_joins_their_vectors(run: Path, tmp_path: Path) -> None:
    """Its vector is that of each network side by side, scaled to length 1."""
    export_networks(run, tmp_path / "both")
    folders = [tmp_path / "both"]
    for name in ("tiny-1", "tiny-2"):
        export(run / name, tmp_path / name)
        folders.append(tmp_path / name)
    both, *alone = [Embedder.load(folder, device="cpu", precision="f32") for folder in folders]
    assert both.manifest.name == "tiny"
    data = view_bytes(1, 5)
    rows = [e.embed([e.prepare(data)])[0] for e in (both, *alone)]
    assert not np.allclose(rows[1], rows[2], atol=1e-3)
    assert rows[0] == pytest.approx(np.concatenate(rows[1:]) / np.sqrt(2), abs=1e-5)


def test_a_multi_seed_run_is_resumed_where_it_stopped(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """A network that is finished stays as it is, one that lacks is trained."""
    first, _ = recipe.per_network()
    out = tmp_path / "run"
    whole = train_networks(recipe, pictures, out)
    weights = (out / first.name / "best.safetensors").read_bytes()
    for file in (out / "tiny-2").iterdir():
        file.unlink()
    with pytest.raises(TrainingError, match="already holds a run"):
        train_networks(recipe, pictures, out)
    again = train_networks(recipe, pictures, out, resume=True)
    assert (out / first.name / "best.safetensors").read_bytes() == weights
    assert [each["ladder"] for each in again["networks"]] == [
        each["ladder"] for each in whole["networks"]
    ]
    other = recipe.model_copy(update={"networks": 3})
    with pytest.raises(TrainingError, match="another recipe"):
        train_networks(other, pictures, out, resume=True)


def test_a_network_that_has_not_ended_is_not_exported(
    run: Path, tmp_path: Path, recipe: Recipe
) -> None:
    """It has a best network already, but no report yet."""
    half = shutil.copytree(run, tmp_path / "half")
    (half / recipe.per_network()[1].name / "report.json").unlink()
    with pytest.raises(TrainingError, match=r"training of tiny-2 has not ended.*--resume"):
        export_networks(half, tmp_path / "embedder")


def test_a_finished_network_is_not_measured_again(
    pictures: list[Photograph], recipe: Recipe, run: Path, tmp_path: Path
) -> None:
    """Its report is read, unless another recipe is to be reported."""
    copy = shutil.copytree(run, tmp_path / "run")
    report = copy / "tiny-1" / "report.json"
    noted = {**json.loads(report.read_text()), "seconds": 12345.0}
    report.write_text(json.dumps(noted))
    again = train_networks(recipe, pictures, copy, resume=True)
    assert again["networks"][0]["seconds"] == 12345.0
    voting = recipe.model_copy(update={"ranking": Ranking(rule="vote")})
    again = train_networks(voting, pictures, copy, resume=True)
    assert again["networks"][0]["seconds"] != 12345.0


def test_a_plain_run_does_not_take_the_folder_of_a_multi_seed_run(
    pictures: list[Photograph], recipe: Recipe, run: Path, tmp_path: Path
) -> None:
    """Neither alone nor by --resume; and several do not take the folder of one."""
    copy = shutil.copytree(run, tmp_path / "run")
    before = (copy / "recipe.yaml").read_text()
    single = recipe.model_copy(update={"networks": 1})
    for resume in (False, True):
        with pytest.raises(TrainingError, match="holds a multi-seed run"):
            train_networks(single, pictures, copy, resume=resume)
    assert (copy / "recipe.yaml").read_text() == before
    with pytest.raises(TrainingError, match="already holds a run"):
        train_networks(recipe, pictures, copy / "tiny-1")


def test_a_run_without_a_checkpoint_takes_no_folder(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """A mended recipe may use the folder where the faulty one was refused."""
    out = tmp_path / "run"
    wrong = recipe.network.model_copy(update={"frozen": ("steam",)})
    with pytest.raises(RecipeError, match="steam"):
        train_networks(recipe.model_copy(update={"network": wrong}), pictures, out)
    train_networks(recipe, pictures, out)
    assert load_recipe(out / "recipe.yaml") == recipe
