"""A run trains, selects its best network by top1, and refuses what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import JsonValue

from embedder.artifacts.arrays import read_npz, write_npz
from embedder.artifacts.files import record
from embedder.embedder import Embedder
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactMismatchError,
    ArtifactMissingError,
    CatalogError,
    TrainingError,
)
from embedder.manifest import read_manifest, write_manifest
from photographs import Photograph, open_data
from tests.factories import photographs, view_bytes
from tests.recipes import tiny_recipe
from trainer.cli import main
from trainer.export.ensemble import join, join_named
from trainer.export.export import export
from trainer.model import checkpoint
from trainer.recipe import Recipe, load_recipe
from trainer.training.train import train


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Photograph]:
    """Draw photographs of four landmarks."""
    return open_data(photographs(tmp_path_factory.mktemp("data"), landmarks=4, views=7)).gallery()


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Give the smallest recipe, saving only at the ends of epochs."""
    return load_recipe(tiny_recipe(tmp_path / "tiny.yaml"), ["save_seconds=60"])


@pytest.fixture(scope="module")
def run(pictures: list[Photograph], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train once for the tests that only look at a finished run."""
    folder = tmp_path_factory.mktemp("run")
    train(load_recipe(tiny_recipe(folder / "tiny.yaml")), pictures, folder / "run")
    return folder / "run"


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
    assert report["validation_gap"] == max(entry["validation_gap"] for entry in report["epochs"])


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


def test_equal_trainings_export_equal_embedders(
    run: Path, pictures: list[Photograph], tmp_path: Path
) -> None:
    """The identity of an embedder is its content: no time and no folder is part of it."""
    train(load_recipe(run / "recipe.yaml"), pictures, tmp_path / "again")
    assert export(run, tmp_path / "first") == export(tmp_path / "again", tmp_path / "second")


def test_an_exported_embedder_is_the_trained_network(run: Path, tmp_path: Path) -> None:
    """The artifact opens, proves its golden vectors and embeds pictures; it can be replaced."""
    first = tmp_path / "first"
    assert export(run, first) == export(run, first)
    embedder = Embedder.load(first, precision="f32")
    assert embedder.dimension == 16
    assert embedder.golden_cosine(first) > 0.9999
    assert embedder.embed([embedder.prepare(view_bytes(1, 99))]).shape == (1, 16)


def test_an_ensemble_joins_the_vectors_of_its_members(
    run: Path, pictures: list[Photograph], tmp_path: Path
) -> None:
    """Embedders in any order give one: their unit vectors in the recipe's order."""
    recipe = tiny_recipe(tmp_path / "tiny.yaml")
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({"extends": "tiny.yaml", "name": "other", "seed": 5}))
    stages = load_recipe(recipe).stages[:1]
    short = stages[0].model_copy(update={"epochs": 1})
    train(load_recipe(other).model_copy(update={"stages": (short,)}), pictures, tmp_path / "run")
    joined = tmp_path / "ensemble.yaml"
    joined.write_text(yaml.safe_dump({"name": "both", "members": ["other.yaml", "tiny.yaml"]}))

    first, second = tmp_path / "first", tmp_path / "second"
    export(tmp_path / "run", first)
    export(run, second)
    with pytest.raises(TrainingError, match="one embedder each of other, tiny; given are tiny, t"):
        join(joined, [second, second], tmp_path / "both")
    arguments = ["export", str(second), str(first), "--out", str(tmp_path / "both")]
    assert main(arguments) == TrainingError.exit_code
    assert main([*arguments, "--ensemble", str(joined)]) == 0
    with pytest.raises(TrainingError, match="both is not an embedder that a run was exported to"):
        join(joined, [tmp_path / "both", second], tmp_path / "more")

    folders = [tmp_path / "both", first, second]
    both, *members = [Embedder.load(folder, device="cpu", precision="f32") for folder in folders]
    assert both.manifest.name == "both"
    assert [member.name for member in both.manifest.members] == ["other", "tiny"]
    data = view_bytes(2, 77)
    rows = [e.embed([e.prepare(data)])[0] for e in (both, *members)]
    expected = np.concatenate(rows[1:]) / np.sqrt(2)
    assert rows[0] == pytest.approx(expected, abs=1e-5)

    write_npz(first / "golden.npz", **{**read_npz(first / "golden.npz"), "picture_0": np.ones(9)})
    with pytest.raises(ArtifactDamagedError, match=r"golden\.npz"):
        join(joined, [first, second], tmp_path / "both")
    manifest, _ = read_manifest(first)
    files = {**manifest.files, "golden.npz": record(first / "golden.npz")}
    write_manifest(first, manifest.model_copy(update={"files": files}))
    with pytest.raises(ArtifactMismatchError, match=r"golden pictures of .*second"):
        join(joined, [first, second], tmp_path / "both")


def test_an_ensemble_keeps_what_all_its_members_advise(run: Path, tmp_path: Path) -> None:
    """Of members that advise differently it keeps nothing."""
    names, folders = ("one", "two"), [tmp_path / "one", tmp_path / "two"]
    for name, folder in zip(names, folders, strict=True):
        export(run, folder)
        _change(folder, name, {"rule": "vote", "neighbors": 3})
    join_named("both", names, folders, tmp_path / "both")
    assert read_manifest(tmp_path / "both")[0].ranking == {"rule": "vote", "neighbors": 3}
    _change(folders[1], "two", {"rule": "vote"})
    join_named("both", names, folders, tmp_path / "both")
    assert read_manifest(tmp_path / "both")[0].ranking == {}


def _change(embedder: Path, name: str, ranking: dict[str, JsonValue]) -> None:
    """Let an embedder's network bear another name, and advise another ranking."""
    manifest, _ = read_manifest(embedder)
    members = (manifest.members[0].model_copy(update={"name": name}),)
    write_manifest(embedder, manifest.model_copy(update={"members": members, "ranking": ranking}))


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


def test_an_unfinished_run_is_not_exported(tmp_path: Path) -> None:
    """A folder without a best network is refused by the file's name."""
    with pytest.raises(ArtifactMissingError, match=r"recipe\.yaml"):
        export(tmp_path, tmp_path / "embedder")


def test_other_files_are_not_overwritten_by_an_export(run: Path, tmp_path: Path) -> None:
    """A folder that is no embedder is never replaced."""
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "holiday.jpg").write_bytes(b"x")
    (precious / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(TrainingError, match="holds other files"):
        export(run, precious)
    assert (precious / "holiday.jpg").exists()


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
