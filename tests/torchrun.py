"""Start something in two processes, as `torchrun` does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import ROOT


def two_processes(*module: str, plain: bool = False) -> list[str]:
    """Return the command that runs a module with arguments; a program if ``plain``."""
    ours = ["--no-python", *module] if plain else ["-m", *module]
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return [sys.executable, "-m", *launcher, *ours]


def run(
    command: list[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; the repository's packages can be imported in it."""
    more = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.run(
        command,
        cwd=Path.cwd(),
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
