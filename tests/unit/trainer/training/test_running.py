"""What surrounds the steps: data wait, event files, memory, random numbers, non-finite numbers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from embedder.errors import TrainingError
from photographs import Photograph, open_data
from tests.factories import photographs
from tests.recipes import tiny_recipe
from trainer.data.shared_array import SharedArray
from trainer.model import checkpoint
from trainer.recipe import Recipe, load_recipe
from trainer.training.allocator import out_of_memory_advice
from trainer.training.data_wait import DataWait
from trainer.training.train import train


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Photograph]:
    """Draw photographs of four landmarks."""
    return open_data(photographs(tmp_path_factory.mktemp("data"), landmarks=4, views=7)).gallery()


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Give the smallest recipe with one epoch."""
    found = load_recipe(tiny_recipe(tmp_path / "tiny.yaml"), ["save_seconds=60"])
    short = found.stages[0].model_copy(update={"epochs": 1, "frozen_epochs": 0})
    return found.model_copy(update={"stages": (short,)})


def test_data_wait_is_measured_apart_from_computing() -> None:
    """Time in the loader and time between batches are measured apart, and pauses not at all."""

    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.2)
            yield number

    data_wait = DataWait(torch.device("cpu"))
    for _ in data_wait.measure(slow()):
        time.sleep(0.1)
        data_wait.add_pictures(6)
        with data_wait.paused():
            time.sleep(0.2)
    seconds = data_wait.measured()
    assert seconds["seconds_loading"] == pytest.approx(0.6, abs=0.15)
    assert seconds["seconds_computing"] == pytest.approx(0.3, abs=0.15)
    assert seconds["pictures_per_second"] == pytest.approx(18 / 0.9, rel=0.2)


def test_the_log_says_who_waits(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run tells at each epoch whether the loader keeps up, and reports the times."""
    with caplog.at_level("INFO"):
        train(recipe, pictures, tmp_path / "run")
    assert "the network did not wait for data" in caplog.text or "waited for data" in caplog.text
    (epoch,) = json.loads((tmp_path / "run" / "report.json").read_text())["epochs"]
    assert epoch["seconds_loading"] >= 0
    assert epoch["seconds_computing"] > 0


def test_curves_are_written_for_tensorboard(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """Every step's loss and rate and every epoch's score stand in event files."""
    report = train(recipe.model_copy(update={"log": "tensorboard"}), pictures, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    losses = events.Scalars("step/loss")
    assert [event.step for event in losses] == list(range(1, report["pictures"] // 4 + 1))
    mean = np.mean([event.value for event in losses])
    assert mean == pytest.approx(report["epochs"][0]["loss"], rel=1e-4)
    assert len(events.Scalars("step/rate")) == len(losses)
    (score,) = events.Scalars("epoch/validation_gap")
    assert score.value == pytest.approx(report["validation_gap"])


def test_without_asking_there_are_no_curves(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """Event files are written only where the recipe says so."""
    train(recipe, pictures, tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()


KEPT = """
import ctypes, resource, torch
from trainer.training.allocator import keep_freed_memory
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: large pages are fewer
def faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64 << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(%s, [faults_of_a_step() for _ in range(20)][-1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of GNU")
@pytest.mark.parametrize("kept", [True, False])
def test_memory_that_a_step_frees_is_there_for_the_next(*, kept: bool) -> None:
    """Nothing is had anew from the system, which otherwise hands out page after page."""
    program = KEPT % ("keep_freed_memory()" if kept else "False")
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    told, faults = ended.stdout.split()
    assert told == str(kept)
    assert (int(faults) < 100) == kept


@pytest.mark.parametrize(
    "claim",
    [
        lambda: np.empty(1 << 50),
        lambda: torch.empty(1 << 50),
        lambda: SharedArray.allocate((1 << 50,)),
    ],
)
def test_a_lack_of_memory_ends_in_advice(claim: Callable[[], object], recipe: Recipe) -> None:
    """What numpy, torch and shared arrays raise becomes a sentence with the override to use."""
    with (
        pytest.raises(TrainingError, match=r"2 pictures of 32 pixels.*stages\.1\.accumulate=4"),
        out_of_memory_advice(
            1, recipe.stages[0].model_copy(update={"accumulate": 2}), Path("last")
        ),
    ):
        claim()


def test_other_errors_are_not_taken_for_a_lack_of_memory(recipe: Recipe) -> None:
    """A programmer's mistake stays one."""
    with (
        pytest.raises(RuntimeError, match="shape"),
        out_of_memory_advice(0, recipe.stages[0], Path("x")),
    ):
        torch.zeros(2).view(3)


LITTLE = """
import resource, sys
import trainer.training.train
from trainer.cli import main
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20), used + (600 << 20)))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process as Linux does")
def test_a_run_without_enough_memory_says_what_to_do(
    pictures: list[Photograph], tmp_path: Path
) -> None:
    """A process that gets too little memory ends by exit code 7 and names the way on."""
    recipe, data = tiny_recipe(tmp_path / "tiny.yaml"), pictures[0].path.parents[1]
    arguments = [
        "train",
        "--recipe",
        str(recipe),
        "--data",
        str(data),
        "--out",
        str(tmp_path / "o"),
    ]
    large = ["--set", "stages.0.side=1024", "--set", "stages.0.batch_size=20"]
    command = [sys.executable, "-c", LITTLE, *arguments, *large]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == TrainingError.exit_code, done.stderr
    assert "not enough for 20 pictures of 1024 pixels" in done.stderr
    assert "--set stages.0.accumulate=2" in done.stderr


def test_weights_that_are_not_finite_are_never_saved(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """A finite loss whose step ruins the weights stops the run before they are written."""
    stage = recipe.stages[0].model_copy(update={"head_lr": 1e39, "lr": 1e-3})
    ruinous = recipe.model_copy(update={"stages": (stage,), "save_seconds": 0})
    with pytest.raises(TrainingError, match="not finite"):
        train(ruinous, pictures, tmp_path / "run")
    assert not (tmp_path / "run" / "last.safetensors").exists()
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_workers_change_nothing(pictures: list[Photograph], recipe: Recipe, tmp_path: Path) -> None:
    """Two runs have equal weights, whether or not other processes made their batches."""
    found = []
    for name, workers in (("none", 0), ("two", 2), ("again", 2)):
        data = recipe.data.model_copy(update={"workers": workers})
        train(recipe.model_copy(update={"data": data}), pictures, tmp_path / name)
        found.append(checkpoint.load(tmp_path / name / "last.safetensors")[0])
    assert len(found[0]) > 100
    for other in found[1:]:
        assert [key for key in found[0] if not found[0][key].equal(other[key])] == []


def test_settings_that_do_not_decide_the_outcome_may_change_on_resume(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """Parts, workers, logs do not make another run of it; the run's recipe tells the new ones."""
    train(recipe, pictures, tmp_path / "run")
    stage = recipe.stages[0].model_copy(update={"accumulate": 2})
    data = recipe.data.model_copy(update={"workers": 1})
    changed = {"stages": (stage,), "data": data, "log": "tensorboard", "save_seconds": 9}
    train(recipe.model_copy(update=changed), pictures, tmp_path / "run", resume=True)
    assert load_recipe(tmp_path / "run" / "recipe.yaml").stages[0].accumulate == 2


def test_parts_smaller_than_two_pictures_are_a_fault(tmp_path: Path) -> None:
    """A batch of four is not cut in three."""
    with pytest.raises(Exception, match=r"stages\.0.*two pictures"):
        load_recipe(tiny_recipe(tmp_path / "tiny.yaml"), ["stages.0.accumulate=3"])
