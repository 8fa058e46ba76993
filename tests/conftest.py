"""What every test may ask for."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from embedder.runtimes.threads import wait_passively

wait_passively()  # before a test, or a program that it starts, loads torch or FAISS
if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are shared among the workers
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Let the programs that tests start hear of Ctrl-C.

    A shell that starts the tests in the background has them ignore it, and programs would take
    that over; of a handler they take over nothing.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def gldv2_mini() -> Path:
    """Give the folder of real photographs, or skip where it is absent."""
    folder = ROOT.parent / "shared" / "data" / "gldv2-mini"
    if not folder.is_dir():
        pytest.skip("the real photographs of gldv2-mini are not beside this checkout")
    return folder
