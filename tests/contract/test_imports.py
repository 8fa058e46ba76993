"""What may be imported by whom, and when: proved in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.contract.modules import MODULES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMMANDS = {
    name: target.split(".")[0]  # the package; run by `python -m` as well
    for name, target in PROJECT["project"]["scripts"].items()
}
LABORATORY = {"torch", "torchvision", "timm", "onnx", "onnxscript", "safetensors", "yaml"}
HEAVY = LABORATORY | {"numpy", "PIL", "faiss", "openvino", "pyarrow", "pydantic", "fastapi"}
SERVED = [
    module.name
    for module in MODULES
    if module.name.split(".")[0] != "trainer"
    and module.name not in ("embedder.runtimes.torch_export", "index.search.torch_search")
    and not module.name.endswith("__main__")
]


def loaded_by(program: str, *arguments: str) -> tuple[set[str], str]:
    """Run a program; give the top-level modules that it loaded, and what it printed."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\nprint('LOADED', *sys.modules)", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    printed, _, names = ended.stdout.rpartition("LOADED ")
    return {name.split(".")[0] for name in names.split()}, printed


def test_serving_needs_nothing_of_the_laboratory() -> None:
    """Every module that runs in production is imported; torch and timm are not there after."""
    assert len(SERVED) > 20
    loaded, _ = loaded_by("\n".join(f"import {name}" for name in SERVED))
    assert {"faiss", "fastapi", "numpy"} <= loaded
    assert loaded & LABORATORY == set()


def test_the_client_brings_nothing_of_the_server() -> None:
    """A program that only asks starts fast: httpx is all that it loads."""
    loaded, _ = loaded_by("import cairn_client")
    assert {"cairn_client", "httpx"} <= loaded
    server = {
        "fastapi",
        "starlette",
        "uvicorn",
        "prometheus_client",
        "embedder",
        "index",
        "service",
    }
    assert loaded & (server | HEAVY) == set()


@pytest.mark.parametrize(
    ("command", "words"), [*((command, ()) for command in COMMANDS), ("cairn-serve", ("predict",))]
)
def test_help_is_instant(command: str, words: tuple[str, ...]) -> None:
    """Nothing heavy is imported before the arguments are parsed, for subcommands too."""
    program = (
        "import runpy\n"
        f"try:\n    runpy.run_module({COMMANDS[command]!r}, run_name='__main__', alter_sys=False)\n"
        "except SystemExit as end:\n    assert not end.code, end.code"
    )
    loaded, printed = loaded_by(program, *words, "--help")
    assert f"usage: {' '.join((command, *words))}" in printed
    assert COMMANDS[command] in loaded
    assert loaded & (HEAVY | {"httpx"}) == set()


def test_there_are_three_commands() -> None:
    """The commands are those of the three stages."""
    assert set(COMMANDS) == {"cairn-train", "cairn-index", "cairn-serve"}


def test_import_directions_are_kept() -> None:
    """import-linter keeps every contract of pyproject.toml, and knows of each."""
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    linter = Path(sys.executable).with_name("lint-imports")
    ended = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert len(contracts) >= 5
    assert ended.returncode == 0, ended.stdout
    assert f"{len(contracts)} kept, 0 broken" in ended.stdout


def test_nothing_happens_at_import() -> None:
    """Importing the production modules writes nothing to stdout or stderr."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", "; ".join(f"import {name}" for name in SERVED)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
