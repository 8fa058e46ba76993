"""Any architecture of timm takes a step and is exported, or is refused in a sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

LISTED = re.findall(
    r'^    "(\w+)": ', (ROOT / "benchmarks" / "architectures.py").read_text("utf-8"), re.MULTILINE
)
PART = 6  # tried by one process, which loads torch once


def tried(*names: str) -> dict[str, Any]:
    """Try architectures, each in a process of its own: one that breaks may end its process."""
    command = [sys.executable, "benchmarks/architectures.py", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_architectures_that_used_to_break_work() -> None:
    """One that ended its process, and one that was made with an option which it does not have."""
    found = tried("repvgg_a0", "levit_128s", "vit_small_patch16_224")
    assert found["broken"] == {}
    assert found["architectures_ok"] == 2
    assert "of 96 it does" in found["refused"]["vit_small_patch16_224"]


def test_the_list_is_long() -> None:
    """Sixty families and more, none of them twice."""
    assert len(set(LISTED)) == len(LISTED) > 60


@pytest.mark.full
@pytest.mark.parametrize("start", range(0, len(LISTED), PART))
def test_no_architecture_breaks(start: int) -> None:
    """Each works, or is refused in a sentence that begins with its name."""
    names = LISTED[start : start + PART]
    found = tried(*names)
    assert found["broken"] == {}
    assert found["architectures_ok"] + found["architectures_refused"] == len(names)
    for name, reason in found["refused"].items():
        assert reason.startswith(f"{name} ")
        assert "\n" not in reason
