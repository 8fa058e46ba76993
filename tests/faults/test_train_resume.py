"""A training run killed anywhere ends, resumed, with the weights it would have had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from embedder.errors import ArtifactDamagedError, ArtifactMissingError, RunInterruptedError
from tests.factories import photographs, view_bytes
from tests.recipes import tiny_recipe, wait_for_second_epoch
from trainer.model import checkpoint

pytestmark = pytest.mark.slow


def command(tmp_path: Path, out: Path, *more: str) -> list[str]:
    """Return the command of a run."""
    recipe, data = str(tmp_path / "recipe.yaml"), str(tmp_path / "data")
    arguments = ["train", "--recipe", recipe, "--data", data, "--out", str(out), *more]
    return [sys.executable, "-m", "trainer", *arguments]


def kill_at(arguments: list[str], last: Path, stage: int, epoch: int, step: int) -> None:
    """Start a run and kill -9 it once its checkpoint has come that far."""
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if process.poll() is not None:
                pytest.fail("the run ended before it could be killed")
            try:
                progress = checkpoint.load(last)[1]["progress"]
            except (ArtifactMissingError, ArtifactDamagedError):  # or replaced while it is read
                progress = {"stage": 0, "epoch": 0, "step": 0}
            if (progress["stage"], progress["epoch"], progress["step"]) >= (stage, epoch, step):
                return
            time.sleep(0.005)
        pytest.fail("the run did not come that far")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def folders(directory: Path) -> list[str]:
    """Draw photographs in folders; both stages learn from all."""
    photographs(directory, landmarks=4, views=7)
    return []


def scored_by_steps(directory: Path) -> list[str]:
    """Draw photographs in folders; the best network may be one in the middle of an epoch."""
    return [*folders(directory), "--set", "validation.unit=steps", "--set", "validation.every=2"]


def lists(directory: Path) -> list[str]:
    """Draw photographs with a list of all and one of the clean; the first stage learns from all."""
    clean = []
    lines = ["id,url,landmark_id"]
    for landmark in range(5):
        ids = [f"{landmark}a{view}" for view in range(7)]
        for view, name in enumerate(ids):
            file = directory / "train" / name[0] / name[1] / name[2] / f"{name}.jpg"
            file.parent.mkdir(parents=True)
            file.write_bytes(view_bytes(landmark, view))
        lines += [f"{name},,{landmark}" for name in ids]
        clean += [f"{landmark},{' '.join(ids[:-1])}"] if landmark > 1 else []
    (directory / "train.csv").write_text("\n".join(lines))
    (directory / "train_clean.csv").write_text("\n".join(["landmark_id,images", *clean]))
    return ["--set", "stages.0.list=train.csv"]


@pytest.mark.parametrize("draw", [folders, scored_by_steps, lists])
def test_a_killed_run_ends_with_the_same_weights(
    tmp_path: Path, draw: Callable[[Path], list[str]]
) -> None:
    """Killed inside epochs and between stages, and resumed, every tensor is equal."""
    more = draw(tmp_path / "data")
    tiny_recipe(tmp_path / "recipe.yaml")
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    subprocess.run(command(tmp_path, whole, *more), check=True, stderr=subprocess.DEVNULL)

    for stage, epoch, step in ((0, 0, 2), (0, 1, 3), (1, 0, 0), (1, 0, 1)):
        resumed = command(tmp_path, pieces, "--resume", *more)
        kill_at(resumed, pieces / "last.safetensors", stage, epoch, step)
    resumed = command(tmp_path, pieces, "--resume", *more)
    subprocess.run(resumed, check=True, stderr=subprocess.DEVNULL)

    for name in ("last.safetensors", "best.safetensors"):
        expected, _ = checkpoint.load(whole / name)
        found, _ = checkpoint.load(pieces / name)
        assert expected.keys() == found.keys()
        assert len(expected) > 100
        different = [key for key in expected if not torch.equal(expected[key], found[key])]
        assert different == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_told_to_end_says_that_it_can_be_resumed(tmp_path: Path, number: int) -> None:
    """It writes a checkpoint and ends with 75; resumed, every tensor is equal."""
    folders(tmp_path / "data")
    tiny_recipe(tmp_path / "recipe.yaml")
    rarely = ["--set", "save_seconds=600", "--set", "data.workers=1"]
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    subprocess.run(command(tmp_path, whole, *rarely), check=True, stderr=subprocess.DEVNULL)

    process = subprocess.Popen(
        command(tmp_path, pieces, *rarely),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_second_epoch(process)
    os.killpg(process.pid, number)  # of the loader's processes, too, as Ctrl-C and Slurm do
    _, rest = process.communicate(timeout=120)
    assert process.returncode == RunInterruptedError.exit_code == 75, rest
    assert "cairn-train: told to end, after writing a checkpoint" in rest
    assert "Traceback" not in rest
    progress = checkpoint.load_facts(pieces / "last.safetensors")["progress"]
    assert (progress["stage"], progress["epoch"]) == (0, 1)

    resumed = command(tmp_path, pieces, "--resume", *rarely)
    subprocess.run(resumed, check=True, stderr=subprocess.DEVNULL)
    for name in ("last.safetensors", "best.safetensors"):
        expected, found = (checkpoint.load(folder / name)[0] for folder in (whole, pieces))
        assert expected.keys() == found.keys()
        assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
