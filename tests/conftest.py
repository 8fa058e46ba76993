"""What every test may ask for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def gldv2_mini() -> Path:
    """Give the folder of real photographs, or skip where it is absent."""
    folder = ROOT.parent / "shared" / "data" / "gldv2-mini"
    if not folder.is_dir():
        pytest.skip("the real photographs of gldv2-mini are not beside this checkout")
    return folder


_STATUS = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember how the tests ended."""
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End the process with the tests' status, without the destructors of native libraries.

    With torch, OpenVINO, FAISS and the Rust core of import-linter in one process, which only the
    tests bring about, those destructors crashed after the last test had passed.
    """
    if _STATUS in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_STATUS])
