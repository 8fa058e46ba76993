"""The check of a machine with a GPU, where there is none: it says so, and its parts work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT

NO_GPU = 69


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the check."""
    command = [sys.executable, "benchmarks/gpu_check.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an NVIDIA GPU")
def test_without_a_gpu_one_line_says_so(tmp_path: Path) -> None:
    """The exit code is one that nothing else has, and nothing is written."""
    ended = check("--out", tmp_path / "out")
    assert (ended.returncode, ended.stdout) == (NO_GPU, "")
    assert ended.stderr.splitlines() == [
        "gpu-check: no NVIDIA GPU that torch can use was found; choose the device cpu"
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_every_part_works_in_miniature_on_a_cpu(tmp_path: Path) -> None:
    """Training, export, gallery, searches and service, with their figures in one line of JSON."""
    ended = check("--out", tmp_path, "--device", "cpu")
    found = json.loads(ended.stdout)
    assert (found["failed"], found["left_out"], ended.returncode) == ({}, [], 0), ended.stderr
    assert found["ok"]
    assert found["train"]["of_backbone"] > 0
    assert found["network"]["f32"]["golden_cosine"] > 0.9999
    assert found["gallery"]["rows"] == 1580
    assert {name: engine["right"] for name, engine in found["search"]["2000"].items()} == {
        "faiss": 1.0,
        "torch": 1.0,
    }
    assert found["service"]["answered"] == 20


def test_parts_that_would_begin_too_late_are_named(tmp_path: Path) -> None:
    """Without time, every part is left out, and that is no success."""
    ended = check("--out", tmp_path, "--device", "cpu", "--seconds", -1)
    found = json.loads(ended.stdout)
    assert (found["ok"], ended.returncode) == (False, 1)
    assert found["left_out"] == ["machine", "train", "network", "gallery", "search", "service"]
