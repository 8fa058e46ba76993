"""What importing the service brings along."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT


def test_serving_imports_neither_torch_nor_timm() -> None:
    """The whole service is imported in a fresh interpreter, and what is loaded is looked at."""
    program = "import sys, service.app, service.lifecycle.server; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(ended.stdout.split())
    assert {"service.app", "faiss", "fastapi"} <= loaded
    assert not loaded & {"torch", "torchvision", "timm", "onnx"}
