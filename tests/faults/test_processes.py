"""Several processes train as one, stop as one, and are resumed as one."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from embedder.errors import ArtifactMissingError, CatalogError, TrainingError
from photographs import open_data
from tests.conftest import ROOT
from tests.factories import photographs
from tests.recipes import TINY, tiny_recipe, wait_for_second_epoch
from tests.torchrun import run, two_processes
from trainer.evaluation.embed import embed_photographs
from trainer.model import checkpoint
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import load_recipe
from trainer.training.train import train

pytestmark = pytest.mark.slow


def training(tmp_path: Path, out: str) -> list[str]:
    """Return module and arguments of a run."""
    recipe, data = str(tmp_path / "recipe.yaml"), str(tmp_path / "data")
    return ["trainer", "train", "--recipe", recipe, "--data", data, "--out", str(tmp_path / out)]


def trained(tmp_path: Path, out: str, *more: str) -> list[str]:
    """Return the command of a run in two processes."""
    return two_processes(*training(tmp_path, out), *more)


def calm_recipe(path: Path) -> Path:
    """Write a recipe in which rounding does not grow.

    There is no drop-out, whose masks are drawn by each process; and no bias before a batch norm,
    whose gradient is nothing but rounding, which Adam turns into steps of full length.
    """
    network = {
        "backbone": "resnet10t",
        "pretrained": "none",
        "pooling": {"kind": "gem"},
        "neck": {"dimension": 16, "after": "swish"},
    }
    stage = {
        "epochs": 1,
        "batch_size": 9,
        "lr": 1e-4,
        "head_lr": 1e-3,
        "schedule": {"kind": "constant"},
    }
    head = {"kind": "subcenter_arcface", "margin": {"kind": "dynamic"}, "class_weights": "rarity"}
    stages = [{**stage, "side": 64, "frozen_epochs": 1}, {**stage, "side": 48, "epochs": 2}]
    changes = {"network": network, "head": head, "stages": stages, "save_seconds": 60}
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a run."""
    tensors, _ = checkpoint.load(folder / "last.safetensors")
    return {n: t for n, t in tensors.items() if n.startswith(("network.", "head.", "averaged."))}


def vectors(folder: Path, data: Path) -> np.ndarray:
    """Embed all photographs by the best network of a run."""
    recipe = load_recipe(folder / "recipe.yaml")
    network = EmbeddingNetwork(recipe.network)
    tensors, _ = checkpoint.load(folder / "best.safetensors")
    network.load_state_dict(checkpoint.part(tensors, "network"))
    readable = [p for p in open_data(data).gallery() if p.path.stat().st_size > 100]
    return embed_photographs(network.eval(), readable, recipe.embed, bf16=False)[1]


def test_two_processes_train_the_network_of_one(tmp_path: Path) -> None:
    """Batches of nine in shares of four and five, one picture unreadable: equal to 1e-3."""
    data = photographs(tmp_path / "data", landmarks=4, views=7)
    first = open_data(data).gallery()[0]
    first.path.write_bytes(b"no picture")
    recipe = calm_recipe(tmp_path / "recipe.yaml")
    expected = train(load_recipe(recipe), open_data(data).gallery(), tmp_path / "one")

    done = run(trained(tmp_path, "two"))
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["validation_gap"] == pytest.approx(expected["validation_gap"], abs=1e-3)
    found = json.loads((tmp_path / "two" / "report.json").read_text())
    assert found["unreadable"] == expected["unreadable"] == 1
    assert (tmp_path / "two" / "unreadable.txt").read_text().split() == [first.id]
    for one, two in zip(expected["epochs"], found["epochs"], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
    of_one, of_two = (weights(tmp_path / name) for name in ("one", "two"))
    assert of_one.keys() == of_two.keys()
    assert len(of_one) > 50
    for name, tensor in of_one.items():
        assert torch.allclose(tensor, of_two[name], rtol=1e-3, atol=1e-3), name
    found_vectors, expected_vectors = (vectors(tmp_path / name, data) for name in ("two", "one"))
    assert found_vectors == pytest.approx(expected_vectors, abs=1e-3)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert {path.name for path in (tmp_path / "two").iterdir()} == names


def test_what_all_processes_find_is_said_once(tmp_path: Path) -> None:
    """Too many unreadable pictures, of both shares, end the run with one message."""
    data = photographs(tmp_path / "data", landmarks=4, views=7)
    for photograph in open_data(data).gallery()[::2]:
        photograph.path.write_bytes(b"no picture")
    tiny_recipe(tmp_path / "recipe.yaml")
    done = run(trained(tmp_path, "run"))
    assert done.returncode != 0
    said = re.findall(r"^cairn-train: .*", done.stderr, re.MULTILINE)
    assert len(said) == 1
    assert "cannot be read" in said[0]
    assert f"exitcode  : {TrainingError.exit_code} " in done.stderr


def test_what_one_process_finds_stops_the_other(tmp_path: Path) -> None:
    """Photographs that are missing on one machine end the run, there with the reason."""
    photographs(tmp_path / "data0", landmarks=4, views=7)
    recipe = tiny_recipe(tmp_path / "recipe.yaml")
    given = f"--recipe {recipe} --data {tmp_path}/data$RANK --out {tmp_path}/run"
    script = f"exec {sys.executable} -m trainer train {given}"
    done = run(two_processes("bash", "-c", script, plain=True))
    assert done.returncode != 0
    said = re.findall(r"^cairn-train: .*", done.stderr, re.MULTILINE)
    assert len(said) == 1
    assert "there is no such folder" in said[0]
    assert f"exitcode  : {CatalogError.exit_code} " in done.stderr
    assert "Traceback" not in done.stderr.partition("torch/distributed/elastic")[0]


def test_a_process_that_disappears_stops_the_other(tmp_path: Path) -> None:
    """Killed without a word, as for want of memory, it is missed by the other, in words."""
    photographs(tmp_path / "data", landmarks=4, views=7)
    tiny_recipe(tmp_path / "recipe.yaml")
    command = [sys.executable, "-m", *training(tmp_path, "run")]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **shared}
    first, second = (
        subprocess.Popen(
            command,
            env={**environment, "RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_RUN_ID": "ours"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    )
    _wait_for(tmp_path / "run" / "last.safetensors", (0, 0, 2), first)
    second.kill()
    second.communicate()
    _, said = first.communicate(timeout=120)
    assert first.returncode == TrainingError.exit_code
    assert "another process of this run disappeared" in said
    assert "Traceback" not in said


def test_killed_processes_end_with_the_same_weights(tmp_path: Path) -> None:
    """Killed in the middle of epochs and resumed by as many processes, every tensor is equal."""
    photographs(tmp_path / "data", landmarks=4, views=7)
    tiny_recipe(tmp_path / "recipe.yaml")  # with drop-out: each process has its own random numbers
    assert run(trained(tmp_path, "whole")).returncode == 0
    for stage, epoch, step in ((0, 0, 2), (0, 1, 3)):
        _kill_at(tmp_path, (stage, epoch, step))
    assert run(trained(tmp_path, "pieces", "--resume")).returncode == 0

    expected, _ = checkpoint.load(tmp_path / "whole" / "last.safetensors")
    found, _ = checkpoint.load(tmp_path / "pieces" / "last.safetensors")
    assert expected.keys() == found.keys()
    assert {"rng.0.cpu", "rng.1.cpu"} <= expected.keys()
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []


@pytest.mark.parametrize("told", ["launcher", "one process"])
def test_processes_told_to_end_agree(tmp_path: Path, told: str) -> None:
    """Whoever gets the signal, all end after one step with 75; resumed, weights are equal."""
    photographs(tmp_path / "data", landmarks=4, views=7)
    tiny_recipe(tmp_path / "recipe.yaml")
    rarely = ["--set", "save_seconds=600"]
    whole = run(trained(tmp_path, "whole", *rarely))
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(
        trained(tmp_path, "pieces", *rarely),
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_second_epoch(process)
    other = max(_children(process.pid))
    os.kill(process.pid if told == "launcher" else other, signal.SIGTERM)
    _, rest = process.communicate(timeout=120)
    assert len(re.findall("told to end, after writing a checkpoint", rest)) == 1, rest
    assert process.returncode != 0
    if told == "one process":
        codes = re.findall(r"exitcode  : (\d+) ", rest)
        assert codes
        assert set(codes) == {"75"}
    assert run(trained(tmp_path, "pieces", "--resume", *rarely)).returncode == 0
    expected, found = (
        checkpoint.load(tmp_path / name / "last.safetensors")[0] for name in ("whole", "pieces")
    )
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []


def test_processes_are_started_anew_by_their_launcher(tmp_path: Path) -> None:
    """One is killed; all begin again from the last checkpoint, and the run ends as it would."""
    photographs(tmp_path / "data", landmarks=4, views=7)
    tiny_recipe(tmp_path / "recipe.yaml")
    whole = run(trained(tmp_path, "whole"))
    assert whole.returncode == 0, whole.stderr
    command = trained(tmp_path, "pieces", "--resume")
    command.insert(command.index("-m", 2), "--max-restarts=1")
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    _wait_for(tmp_path / "pieces" / "last.safetensors", (0, 0, 2), process)
    os.kill(max(_children(process.pid)), signal.SIGKILL)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "another process of this run disappeared" in said
    expected, found = (
        checkpoint.load(tmp_path / name / "last.safetensors")[0] for name in ("whole", "pieces")
    )
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []


def _kill_at(tmp_path: Path, place: tuple[int, int, int]) -> None:
    """Start the run and kill -9 all its processes once its checkpoint has come that far."""
    process = subprocess.Popen(
        trained(tmp_path, "pieces", "--resume"),
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(tmp_path / "pieces" / "last.safetensors", place, process)
    finally:
        for child in _children(process.pid):
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()


def _wait_for(last: Path, place: tuple[int, int, int], process: subprocess.Popen[Any]) -> None:
    """Wait until a checkpoint has come that far."""
    deadline = time.monotonic() + 240
    while _place(last) < place:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run did not come that far"
        time.sleep(0.005)


def _place(last: Path) -> tuple[int, int, int]:
    try:
        progress = checkpoint.load(last)[1]["progress"]
    except ArtifactMissingError:
        return (0, 0, 0)
    return (progress["stage"], progress["epoch"], progress["step"])


def _children(parent: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False
    )
    return [int(number) for number in listed.stdout.split()]
