"""Threads that wait leave the cores to others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedder.runtimes.threads import wait_passively

ROOT = Path(__file__).parents[4]


def test_what_the_environment_says_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for spinning threads gets them."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"


def test_a_search_leaves_no_thread_spinning() -> None:
    """When it has ended, the process takes next to no CPU time until something is to be done."""
    program = (
        "import time\n"
        "from embedder.runtimes.threads import wait_passively\n"
        "wait_passively()\n"
        "import numpy as np\n"
        "from index.search.faiss_search import nearest\n"
        "rows = np.random.default_rng(0).random((2000, 64), np.float32)\n"
        "idle = 0.0\n"
        "for _ in range(5):\n"
        "    nearest(rows, rows[:64], 1)\n"
        "    idle -= time.process_time()\n"
        "    time.sleep(0.03)\n"
        "    idle += time.process_time()\n"
        "print(idle)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(ended.stdout) < 0.002
