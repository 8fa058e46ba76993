"""A training run killed anywhere ends, resumed, with the weights it would have had."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from embedder.errors import ArtifactMissingError
from tests.factories import photographs
from tests.recipes import tiny_recipe
from trainer import checkpoint

pytestmark = pytest.mark.slow


def command(tmp_path: Path, out: Path, *more: str) -> list[str]:
    """Write down the command of a run."""
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
            except ArtifactMissingError:
                progress = {"stage": 0, "epoch": 0, "step": 0}
            if (progress["stage"], progress["epoch"], progress["step"]) >= (stage, epoch, step):
                return
            time.sleep(0.005)
        pytest.fail("the run did not come that far")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Killed three times in the middle of epochs and resumed, every tensor is equal."""
    photographs(tmp_path / "data", landmarks=4, views=7)
    tiny_recipe(tmp_path / "recipe.yaml")
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    subprocess.run(command(tmp_path, whole), check=True, stderr=subprocess.DEVNULL)

    for stage, epoch, step in ((0, 0, 2), (0, 1, 3), (1, 0, 1)):
        resumed = command(tmp_path, pieces, "--resume")
        kill_at(resumed, pieces / "last.safetensors", stage, epoch, step)
    subprocess.run(command(tmp_path, pieces, "--resume"), check=True, stderr=subprocess.DEVNULL)

    for name in ("last.safetensors", "best.safetensors"):
        expected, _ = checkpoint.load(whole / name)
        found, _ = checkpoint.load(pieces / name)
        assert expected.keys() == found.keys()
        assert len(expected) > 100
        different = [key for key in expected if not torch.equal(expected[key], found[key])]
        assert different == []
