"""One short training for all tests that only read a finished run."""

from __future__ import annotations

from pathlib import Path

import pytest

from photographs import Photograph, open_data
from tests.factories import photographs
from tests.recipes import tiny_recipe
from trainer.recipe import load_recipe


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Photograph]:
    """Draw photographs of four landmarks."""
    return open_data(photographs(tmp_path_factory.mktemp("data"), landmarks=4, views=7)).gallery()


@pytest.fixture(scope="session")
def run(pictures: list[Photograph], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the tiny recipe; no test may change the folder."""
    from trainer.training.train import train  # loads torch, which many of these tests do without

    folder = tmp_path_factory.mktemp("run")
    train(load_recipe(tiny_recipe(folder / "tiny.yaml")), pictures, folder / "run")
    return folder / "run"
