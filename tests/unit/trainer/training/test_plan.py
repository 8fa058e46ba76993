"""A run says what it is about to do, and refuses what the disk has no room for."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from embedder.errors import TrainingError
from photographs import Photograph
from tests.recipes import tiny_recipe
from trainer.data.loading import epoch_batches
from trainer.model.checkpoint import Progress
from trainer.recipe import Recipe, load_recipe
from trainer.training import monitor
from trainer.training.plan import count_steps, estimate_seconds
from trainer.training.run_setup import set_up_run
from trainer.training.train import train

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Give the smallest recipe, saving only at the ends of epochs."""
    return load_recipe(tiny_recipe(tmp_path / "tiny.yaml"), ["save_seconds=60"])


def test_steps_are_those_that_are_run(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """All whole batches, or as many as the recipe allows; the time left counts them by pixels."""
    first, second = recipe.stages
    limited = (first, second.model_copy(update={"steps": 3}))
    context = set_up_run(
        recipe.model_copy(update={"stages": limited}), pictures, {}, tmp_path, None
    )
    total = len(context.training_sets[0].photographs)
    assert count_steps(context, 0) == len(epoch_batches(total, first.batch_size, (0, 0, 0)))
    assert count_steps(context, 1) == 3
    of_epoch, later = count_steps(context, 0) * 4 * 32**2, 3 * 4 * 48**2
    assert estimate_seconds(context, Progress(), 2.0) == 2 * (2 * of_epoch + later)
    assert estimate_seconds(context, Progress(0, 1, 1), 1.0) == of_epoch - 4 * 32**2 + later
    assert estimate_seconds(context, Progress(1, 0, 1), 1.0) == later * 2 / 3


def test_the_plan_is_said_before_the_first_step(
    pictures: list[Photograph],
    recipe: Recipe,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pictures, landmarks, steps, memory and disk; after some steps the time left."""
    monkeypatch.setattr(monitor, "ESTIMATED_AFTER", 4)
    with caplog.at_level("INFO"):
        train(recipe, pictures, tmp_path / "run")
    said = [record.getMessage() for record in caplog.records]
    stages = [text for text in said if text.startswith("stage ")]
    assert len(stages) == 2
    assert "24 pictures of 4 landmarks at 32 pixels; 2 epochs of 6 steps of 4" in stages[0]
    (memory,) = [text for text in said if "memory beside activations" in text]
    (left,) = [text for text in said if "steps still to come" in text]
    (epoch, *_) = [text for text in said if "validation GAP" in text]
    assert said.index(stages[1]) < said.index(memory) < said.index(left) < said.index(epoch)


def test_a_disk_without_room_refuses_the_run(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence, before any step; checkpoints that will be replaced count as room."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 5000, 5000))
    with pytest.raises(TrainingError, match=r"need 0\.\d\d GB in .*, and 0\.00 GB are free"):
        train(recipe, pictures, tmp_path / "run")
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_gradients_and_speed_are_curves(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every look, here at every step, the norms and the pictures per second are written."""
    monkeypatch.setattr(monitor, "INTERVAL_SECONDS", 0.0)
    train(recipe.model_copy(update={"log": "tensorboard"}), pictures, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    for name in ("gradient_network", "gradient_head", "pictures_per_second"):
        found = events.Scalars(f"step/{name}")
        assert [event.step for event in found] == list(range(1, 6 * 3 + 1))
        assert all(event.value > 0 for event in found)
