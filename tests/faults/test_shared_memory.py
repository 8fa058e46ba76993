"""Training with worker processes does without ``/dev/shm``, which is small in containers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.factories import photographs
from tests.recipes import tiny_recipe

pytestmark = pytest.mark.slow

SMALL = "mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "


def may_mount() -> bool:
    """Tell whether this process may mount a file system of its own."""
    if not shutil.which("unshare") or os.geteuid():
        return False
    tried = ["unshare", "--mount", "sh", "-c", SMALL + "true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="only root may mount a small /dev/shm")
def test_a_run_needs_no_room_in_shared_memory(tmp_path: Path) -> None:
    """A run whose every batch is larger than ``/dev/shm`` ends as others do."""
    photographs(tmp_path / "data", landmarks=4, views=40)
    recipe, data, out = tiny_recipe(tmp_path / "tiny.yaml"), tmp_path / "data", tmp_path / "run"
    changes = ["data.workers=2", "stages.0.side=128", "stages.0.batch_size=24", "save_seconds=60"]
    command = [sys.executable, "-m", "trainer", "train", "--recipe", recipe]
    command += ["--data", data, "--out", out]
    command += [word for change in changes for word in ("--set", change)]
    script = SMALL + " ".join(f"'{word}'" for word in command)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (out / "report.json").is_file()
