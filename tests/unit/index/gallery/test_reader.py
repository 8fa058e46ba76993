"""What a process loads that only reads galleries."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("module", ["index.gallery.gallery", "index.gallery.recognize"])
def test_a_reader_of_a_gallery_loads_no_builder(module: str) -> None:
    """Neither the embedding pipeline nor its progress bars, in a fresh interpreter."""
    program = f"import sys, {module}; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = ended.stdout.split()
    assert {module, "faiss", "index.search.neighbors"} <= set(loaded)
    builders = ("tqdm", "torch", "index.building", "index.evaluation", "index.maintenance")
    assert [name for name in loaded if name.startswith(builders)] == []
