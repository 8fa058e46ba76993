"""Runs that start from another run, cut their epochs short, or compute otherwise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from embedder.errors import ArtifactMismatchError, ArtifactMissingError, TrainingError
from photographs import Photograph
from tests.recipes import tiny_recipe
from trainer.cli import main
from trainer.model import checkpoint, run_folder
from trainer.recipe import Recipe, load_recipe
from trainer.recipe.stage import rate_factor
from trainer.training.checkpoints import Checkpoints
from trainer.training.train import train


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Give the smallest recipe, saving only at the ends of epochs."""
    return load_recipe(tiny_recipe(tmp_path / "tiny.yaml"), ["save_seconds=60"])


def still(recipe: Recipe, **changes: Any) -> Recipe:
    """Take one step in which next to nothing changes."""
    stage = {"epochs": 1, "steps": 1, "lr": 1e-30, "head_lr": 1e-30}
    stages = (recipe.stages[0].model_copy(update=stage),)
    return recipe.model_copy(update={"stages": stages, "ema": 0.0, **changes})


def test_a_run_starts_from_the_network_and_head_of_another(
    run: Path, pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """The best network, and the centers of the landmarks that both know; others are new."""
    ids = sorted({str(picture.landmark_id) for picture in pictures})
    renamed = [
        Photograph(p.id, p.path, "another" if p.landmark_id == ids[0] else p.landmark_id)
        for p in pictures
    ]
    train(still(recipe), renamed, tmp_path / "next", weights=run)
    before, facts = checkpoint.load(run / run_folder.BEST)
    after, named = checkpoint.load(tmp_path / "next" / run_folder.LAST)
    weights = [name for name in before if name.startswith("network.") and "running" not in name]
    weights = [name for name in weights if "num_batches" not in name]
    assert len(weights) > 50
    for name in weights:
        assert torch.allclose(before[name], after[name], atol=1e-6), name
    assert (facts["landmarks"], named["landmarks"]) == (ids, ["another", *ids[1:]])
    theirs, ours = (t["head.weight"].view(4, -1) for t in (before, after))
    assert torch.allclose(theirs[1:], ours[1:], atol=1e-6)
    assert not torch.allclose(theirs[0], ours[0], atol=1e-3)


def test_what_a_run_starts_from_is_part_of_its_outcome(
    run: Path, pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """It is resumed with the same start only."""
    train(still(recipe), pictures, tmp_path / "next", weights=run)
    with pytest.raises(TrainingError, match="other recipe, pictures or weights"):
        train(still(recipe), pictures, tmp_path / "next", resume=True)
    train(still(recipe), pictures, tmp_path / "next", weights=run, resume=True)


def test_another_network_is_no_start(
    run: Path, pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """Another embedding, no run at all: each is refused in words."""
    network = recipe.network.model_copy(
        update={"neck": recipe.network.neck.model_copy(update={"dimension": 8})}
    )
    other = recipe.model_copy(update={"network": network})
    with pytest.raises(ArtifactMismatchError, match="expected that of the recipe"):
        train(other, pictures, tmp_path / "next", weights=run)
    with pytest.raises(ArtifactMissingError):
        train(recipe, pictures, tmp_path / "next", weights=tmp_path)


def test_the_command_takes_one_start(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run replaces a file of weights, and has to be a folder."""
    given = ["train", "--recipe", "r.yaml", "--data", str(tmp_path), "--out", str(tmp_path / "o")]
    for more in (["--init-from", str(run), "--weights", "w"], ["--init-from", "none"]):
        assert main([*given, *more]) == TrainingError.exit_code
        assert "--init-from names the folder of a run" in capsys.readouterr().err


def test_a_limit_of_steps_cuts_every_epoch(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """The schedule is planned for the cut epochs, and every epoch takes other pictures."""
    stage = recipe.stages[0].model_copy(update={"steps": 2, "epochs": 3})
    train(recipe.model_copy(update={"stages": (stage,), "log": "tensorboard"}), pictures, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    rates = [event.value for event in events.Scalars("step/rate")]
    assert rates == pytest.approx([stage.lr * rate_factor(stage, n / 2) for n in range(6)])


class StoppedError(Exception):
    """What stands for the end of the process."""


def train_until(number: int, *arguments: Any, **options: Any) -> bool:
    """Train, and stop after so many checkpoints; tell whether there were so many."""
    save, left = Checkpoints.save, [number]

    def save_and_stop(checkpoints: Checkpoints) -> None:
        save(checkpoints)
        left[0] -= 1
        if not left[0]:
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_stop)
        try:
            train(*arguments, **options)
        except StoppedError:
            return True
    return False


def assert_equal(one: Path, other: Path) -> None:
    """Compare the last checkpoints of two runs."""
    (expected, facts), (found, others) = (
        checkpoint.load(folder / run_folder.LAST) for folder in (one, other)
    )
    assert expected.keys() == found.keys()
    assert len(expected) > 100
    assert [name for name in expected if not expected[name].equal(found[name])] == []
    assert facts["scaler"] == others["scaler"]


@pytest.mark.parametrize(
    "changes",
    [
        {"stages.0.steps": 3},
        {"optimizer.kind": "sgd", "head.label_smoothing": 0.1},
        {"precision": "fp16", "optimizer.clip_norm": 1.0},
    ],
    ids=["steps", "sgd", "fp16"],
)
def test_a_stopped_run_ends_with_the_same_weights(
    pictures: list[Photograph], tmp_path: Path, changes: dict[str, object]
) -> None:
    """Stopped at every second checkpoint and resumed, before validations too: tensors are equal."""
    overrides = [f"{key}={value}" for key, value in {"save_seconds": 60, **changes}.items()]
    recipe = load_recipe(tiny_recipe(tmp_path / "tiny.yaml"), overrides)
    train(recipe, pictures, tmp_path / "whole")
    stops = 0
    while train_until(2, recipe, pictures, tmp_path / "pieces", resume=True):
        stops += 1
        assert stops < 20
    assert stops > 1
    assert_equal(tmp_path / "whole", tmp_path / "pieces")
    facts = checkpoint.load_facts(tmp_path / "whole" / run_folder.LAST)
    assert bool(facts["scaler"]) is (recipe.precision == "fp16")


def test_a_run_goes_on_from_the_checkpoint_before(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """With its last checkpoint cut off, a run ends with the weights it would have had."""
    train(recipe, pictures, tmp_path / "whole")
    assert not (tmp_path / "whole" / run_folder.PREVIOUS).exists()
    run = tmp_path / "run"
    assert train_until(3, recipe, pictures, run)
    damaged = run / run_folder.LAST
    os.truncate(damaged, damaged.stat().st_size - 8)
    train(recipe, pictures, run, resume=True)
    assert_equal(tmp_path / "whole", run)
