"""A run trains, selects its best network by top1, and refuses what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedder.errors import (
    CatalogError,
    TrainingError,
)
from photographs import Photograph, open_data
from tests.factories import photographs, view_bytes
from tests.recipes import tiny_recipe
from trainer.cli import main
from trainer.model import checkpoint
from trainer.recipe import Recipe, load_recipe
from trainer.training.train import train


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Give the smallest recipe, saving only at the ends of epochs."""
    return load_recipe(tiny_recipe(tmp_path / "tiny.yaml"), ["save_seconds=60"])


def test_a_run_leaves_its_files_and_report(run: Path) -> None:
    """Recipe, checkpoints and a report with one entry per epoch are there."""
    assert {path.name for path in run.iterdir()} == {
        "recipe.yaml",
        "crops.npz",
        "last.safetensors",
        "best.safetensors",
        "report.json",
        "report.html",
    }
    report = json.loads((run / "report.json").read_text())
    assert [(entry["stage"], entry["epoch"]) for entry in report["epochs"]] == [
        (0, 0),
        (0, 1),
        (1, 0),
    ]
    kept = [entry for entry in report["epochs"] if entry["kept"]]
    assert report["validation_gap"] == kept[-1]["validation_gap"]


def test_the_loss_falls(pictures: list[Photograph], recipe: Recipe, tmp_path: Path) -> None:
    """A dozen epochs on a few pictures bring the loss down, whatever the last of them does."""
    stage = recipe.stages[0].model_copy(update={"epochs": 12, "frozen_epochs": 0})
    report = train(recipe.model_copy(update={"stages": (stage,)}), pictures, tmp_path / "run")
    losses = [entry["loss"] for entry in report["epochs"]]
    assert sum(losses[-4:]) / 4 < 0.75 * losses[0]


def test_a_frozen_epoch_leaves_the_backbone_alone(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """In a frozen epoch neck and head learn; the backbone, with its statistics, stays."""
    stage = recipe.stages[0].model_copy(update={"epochs": 2, "stop_at_epoch": 1})
    tensors = []
    for name, frozen in (("frozen", 1), ("more", 1), ("free", 0)):
        stages = (stage.model_copy(update={"frozen_epochs": frozen}),)
        changed = {"stages": stages, "seed": 3 if name == "more" else 0}
        train(recipe.model_copy(update=changed), pictures, tmp_path / name)
        tensors.append(checkpoint.load(tmp_path / name / "last.safetensors")[0])
    key = "network.backbone.conv_stem.weight"
    statistics = "network.backbone.bn1.running_mean"
    assert not tensors[0][statistics].any()
    assert tensors[2][statistics].any()
    assert not tensors[0][key].equal(tensors[2][key])


def test_frozen_parts_of_a_backbone_stay_as_they_are(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """Named parts keep weights and statistics through a whole run; the rest learns."""
    network = recipe.network.model_copy(update={"frozen": ("bn1", "blocks.0")})
    stage = recipe.stages[0].model_copy(update={"epochs": 2, "frozen_epochs": 0})
    changed = {"network": network, "stages": (stage,), "ema": 0.0}
    tensors = []
    for epochs in (1, 2):
        stages = (stage.model_copy(update={"stop_at_epoch": epochs}),)
        out = tmp_path / f"{epochs}"
        train(recipe.model_copy(update={**changed, "stages": stages}), pictures, out)
        loaded = checkpoint.load(out / "last.safetensors")[0]
        tensors.append(checkpoint.part(loaded, "network"))
    first, second = tensors
    frozen = {name for name in first if name.startswith(("backbone.bn1.", "backbone.blocks.0."))}
    assert len(frozen) > 10
    assert all(first[name].equal(second[name]) for name in frozen)
    assert not first["backbone.bn1.running_mean"].any()
    learns = [n for n in first if n.endswith(".weight") and n not in frozen]
    assert not any(first[name].equal(second[name]) for name in learns)


def test_a_folder_with_a_run_is_not_overwritten(
    run: Path, pictures: list[Photograph], recipe: Recipe
) -> None:
    """Without --resume a second run in the same folder is refused."""
    with pytest.raises(TrainingError, match="already holds a run"):
        train(recipe, pictures, run)


def test_a_run_is_not_resumed_with_another_recipe(
    run: Path, pictures: list[Photograph], recipe: Recipe
) -> None:
    """A checkpoint belongs to its recipe and pictures."""
    with pytest.raises(TrainingError, match="another recipe"):
        train(recipe.model_copy(update={"seed": 9}), pictures, run, resume=True)


def test_resuming_a_finished_run_changes_nothing(run: Path, pictures: list[Photograph]) -> None:
    """A finished run is reported again, not trained further."""
    before = (run / "last.safetensors").read_bytes()
    report = train(load_recipe(run / "recipe.yaml"), pictures, run, resume=True)
    assert report == json.loads((run / "report.json").read_text())
    assert (run / "last.safetensors").read_bytes() == before


def test_one_landmark_is_too_few(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """A classifier needs two classes."""
    alone = [p for p in pictures if p.landmark_id == pictures[0].landmark_id]
    with pytest.raises(TrainingError, match="7 photographs of 1 landmarks"):
        train(recipe, alone, tmp_path / "run")


def test_too_many_unreadable_pictures_stop_the_run(recipe: Recipe, tmp_path: Path) -> None:
    """Above the limit the run stops and a file names the pictures."""
    damaged = open_data(photographs(tmp_path / "data", landmarks=3, views=6)).gallery()
    for photograph in damaged[::2]:
        photograph.path.write_bytes(b"no picture")
    with pytest.raises(TrainingError, match=r"cannot be read.*unreadable\.txt"):
        train(recipe, damaged, tmp_path / "run")
    named = (tmp_path / "run" / "unreadable.txt").read_text().split()
    assert named
    assert set(named) <= {photograph.id for photograph in damaged[::2]}


def test_a_few_unreadable_pictures_are_counted(recipe: Recipe, tmp_path: Path) -> None:
    """Below the limit the run goes on and the report counts them."""
    damaged = open_data(photographs(tmp_path / "data", landmarks=3, views=6)).gallery()
    damaged[3].path.write_bytes(b"no picture")
    lenient = recipe.data.model_copy(update={"max_unreadable": 0.2, "validation": 0.0})
    report = train(recipe.model_copy(update={"data": lenient}), damaged, tmp_path / "run")
    assert report["unreadable"] == 1


def test_a_loss_that_is_not_finite_stops_with_advice(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """Absurd rates end in an error that says what to try."""
    stage = recipe.stages[0].model_copy(update={"lr": 1e30, "head_lr": 1e30, "frozen_epochs": 0})
    with pytest.raises(TrainingError, match=r"not finite.*Lower the learning rates"):
        train(recipe.model_copy(update={"stages": (stage,)}), pictures, tmp_path / "run")


@pytest.mark.parametrize(
    ("validation", "train_size", "validation_size"),
    [
        ({"kind": "folds", "folds": 7, "fold": 1, "every": 2}, 24, 2),
        ({"kind": "counts", "learned": 16, "kept_back": 6, "tested": 4}, 16, 6),
    ],
)
def test_a_run_splits_as_its_recipe_says(
    pictures: list[Photograph],
    tmp_path: Path,
    validation: dict[str, Any],
    train_size: int,
    validation_size: int,
) -> None:
    """Folds and counts reach the run; a test part is measured once and reported."""
    content = yaml.safe_load(tiny_recipe(tmp_path / "tiny.yaml").read_text())
    content["data"]["validation"] = validation
    content["head"] = {"kind": "softmax"}
    content["optimizer"] = {"kind": "radam"}
    content["stages"] = [{**content["stages"][0], "epochs": 1, "schedule": {"kind": "constant"}}]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    report = train(load_recipe(tmp_path / "mine.yaml"), pictures, tmp_path / "run")
    assert (report["pictures"], report["kept_back"]) == (train_size, validation_size)
    assert report.get("tested") == validation.get("tested")
    assert ("test_gap" in report) is (validation["kind"] == "counts")


def test_distractors_are_queries_in_validation(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """The report holds the AUROC of pictures of no landmark; a missing folder is refused."""
    folder = tmp_path / "distractors"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(view_bytes(100 + number, 0))
    stages = (recipe.stages[0].model_copy(update={"epochs": 1}),)

    def asking(path: Path) -> Recipe:
        data = recipe.data.model_copy(update={"distractors": path})
        return recipe.model_copy(update={"data": data, "stages": stages})

    report = train(asking(folder), pictures, tmp_path / "run")
    assert report["distractors"] == 3
    assert 0 <= report["validation_auroc"] <= 1
    assert report["epochs"][0]["validation_auroc"] == report["validation_auroc"]
    assert "auroc" in report["ladder"][0]
    with pytest.raises(CatalogError, match="there is no such folder"):
        train(asking(tmp_path / "none"), pictures, tmp_path / "other")


def test_the_command_reports_faults_with_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A faulty recipe ends with exit code 2 and every fault on stderr."""
    recipe = tiny_recipe(tmp_path / "tiny.yaml")
    arguments = ["train", "--recipe", str(recipe), "--data", str(tmp_path), "--out", "x"]
    assert main([*arguments, "--set", "stages.0.epochs=0", "--set", "name="]) == 2
    errors = capsys.readouterr().err
    assert "stages.0.epochs" in errors
    assert "name" in errors
