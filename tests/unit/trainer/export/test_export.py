"""A trained network leaves as an embedder, in one file for each engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedder.embedder import Embedder
from embedder.errors import (
    ArtifactMissingError,
    TrainingError,
)
from photographs import Photograph
from tests.factories import view_bytes
from trainer.export.export import export
from trainer.recipe import load_recipe
from trainer.training.train import train


@pytest.mark.slow
def test_equal_trainings_export_equal_embedders(
    run: Path, pictures: list[Photograph], tmp_path: Path
) -> None:
    """The identity of an embedder is its content: no time and no folder is part of it."""
    train(load_recipe(run / "recipe.yaml"), pictures, tmp_path / "again")
    assert export(run, tmp_path / "first") == export(tmp_path / "again", tmp_path / "second")


def test_an_exported_embedder_is_the_trained_network(run: Path, tmp_path: Path) -> None:
    """The artifact opens, proves its golden vectors and embeds pictures; it can be replaced."""
    first = tmp_path / "first"
    assert export(run, first) == export(run, first)
    embedder = Embedder.load(first, precision="f32")
    assert embedder.dimension == 16
    assert embedder.golden_cosine(first) > 0.9999
    assert embedder.embed([embedder.prepare(view_bytes(1, 99))]).shape == (1, 16)


def test_an_unfinished_run_is_not_exported(tmp_path: Path) -> None:
    """A folder without a best network is refused by the file's name."""
    with pytest.raises(ArtifactMissingError, match=r"recipe\.yaml"):
        export(tmp_path, tmp_path / "embedder")


def test_other_files_are_not_overwritten_by_an_export(run: Path, tmp_path: Path) -> None:
    """A folder that is no embedder is never replaced."""
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "holiday.jpg").write_bytes(b"x")
    (precious / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(TrainingError, match="holds other files"):
        export(run, precious)
    assert (precious / "holiday.jpg").exists()
