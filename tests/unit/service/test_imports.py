"""What importing the service brings along."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

HEAVY = {"numpy", "pyarrow", "faiss", "openvino", "PIL"}


def imported_by(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter, and tell which modules are loaded after it."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ended.stdout.split())


def test_the_front_process_imports_nothing_that_works_on_pictures() -> None:
    """It needs little memory and is there at once; the workers have the rest."""
    loaded = imported_by("import service.app, service.lifecycle.server")
    assert {"service.app", "fastapi"} <= loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("module", ["service.app", "service.inference.fork_server"])
def test_serving_imports_neither_torch_nor_timm(module: str) -> None:
    """The whole of each process is imported."""
    loaded = imported_by(f"import {module}")
    assert not loaded & {"torch", "torchvision", "timm", "onnx"}


def test_workers_import_no_web_framework() -> None:
    """A worker has what its fork server has imported, and all of that it needs."""
    loaded = imported_by("import service.inference.fork_server")
    assert loaded >= HEAVY
    assert not loaded & {"fastapi", "starlette", "uvicorn", "prometheus_client"}
