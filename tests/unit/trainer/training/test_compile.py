"""The network may be compiled; where that cannot be done, the run says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedder.errors import TrainingError
from photographs import open_data
from tests.conftest import ROOT
from tests.factories import photographs
from tests.recipes import TINY
from trainer.recipe import load_recipe
from trainer.training.train import train

pytestmark = pytest.mark.slow

NETWORK = {
    "backbone": "six_convolutions",
    "pretrained": "none",
    "pooling": {"kind": "average"},
    "neck": {"dimension": 8, "after": "nothing"},
}


def prepared(tmp_path: Path) -> tuple[Path, Path]:
    """Write a recipe of one epoch and draw photographs."""
    stages: Any = TINY["stages"]
    stage = {**stages[0], "side": 64, "epochs": 1, "frozen_epochs": 0}
    recipe = tmp_path / "recipe.yaml"
    content = {**TINY, "network": NETWORK, "stages": [stage], "embed": {"side": 64}}
    recipe.write_text(yaml.safe_dump(content))
    return recipe, photographs(tmp_path / "data", landmarks=3, views=5)


def command(tmp_path: Path, recipe: Path, data: Path) -> list[str]:
    """Return the command of a compiled run."""
    given = ["--recipe", recipe, "--data", data, "--out", tmp_path / "run", "--set", "compile=true"]
    return [sys.executable, "-m", "trainer", "train", *map(str, given)]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """Give an environment in which nothing has been compiled yet."""
    cache = str(tmp_path / "compiled")
    return {**os.environ, "PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": cache, **more}


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler: no g++")
def test_a_compiled_run_learns_the_same(tmp_path: Path) -> None:
    """The loss of a compiled run is that of a plain one."""
    recipe, data = prepared(tmp_path)
    made = command(tmp_path, recipe, data)
    done = subprocess.run(
        made, env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "compiled").rglob("*.cpp"))
    plain = train(load_recipe(recipe), open_data(data).gallery(), tmp_path / "plain")
    found = yaml.safe_load((tmp_path / "run" / "report.json").read_text())
    assert found["epochs"][0]["loss"] == pytest.approx(plain["epochs"][0]["loss"], rel=1e-3)


def test_without_a_compiler_the_run_says_so(tmp_path: Path) -> None:
    """There is no silent way back: exit code 7, and the override to go on by."""
    recipe, data = prepared(tmp_path)
    made = command(tmp_path, recipe, data)
    none = environment(tmp_path, CXX="/nonexistent/g++")
    done = subprocess.run(made, env=none, capture_output=True, text=True, check=False)
    assert done.returncode == TrainingError.exit_code, done.stderr
    assert "set compile=false" in done.stderr
    assert "Traceback" not in done.stderr
