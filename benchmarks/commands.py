"""What benchmarks of whole trainings share: Cairn's commands, run as a user types them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_NAMES = {"trainer": "cairn-train", "index": "cairn-index"}


def run(module: str, *arguments: object) -> dict[str, Any]:
    """Run one command of Cairn and return its result."""
    words = [str(argument) for argument in arguments]
    print("$", _NAMES[module], *words, file=sys.stderr)
    command = [sys.executable, "-m", module, *words]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT)
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def parser_of_trainings(documentation: str | None) -> argparse.ArgumentParser:
    """Make a parser that takes what every training needs; its help begins with the first line."""
    parser = argparse.ArgumentParser(description=(documentation or "").partition("\n")[0])
    quickstart = ROOT / "trainer" / "recipes" / "quickstart_mobilenetv2.yaml"
    parser.add_argument("--recipe", type=Path, default=quickstart)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    return parser
