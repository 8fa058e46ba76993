"""Embedders of one network each are joined to one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import JsonValue

from embedder.artifacts.arrays import read_npz, write_npz
from embedder.artifacts.files import record
from embedder.embedder import Embedder
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactMismatchError,
    TrainingError,
)
from embedder.manifest import read_manifest, write_manifest
from photographs import Photograph
from tests.factories import view_bytes
from tests.recipes import tiny_recipe
from trainer.cli import main
from trainer.export.ensemble import join, join_named
from trainer.export.export import export
from trainer.recipe import load_recipe
from trainer.training.train import train


@pytest.mark.slow
def test_an_ensemble_joins_the_vectors_of_its_members(
    run: Path, pictures: list[Photograph], tmp_path: Path
) -> None:
    """Embedders in any order give one: their unit vectors in the recipe's order."""
    recipe = tiny_recipe(tmp_path / "tiny.yaml")
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({"extends": "tiny.yaml", "name": "other", "seed": 5}))
    stages = load_recipe(recipe).stages[:1]
    short = stages[0].model_copy(update={"epochs": 1})
    train(load_recipe(other).model_copy(update={"stages": (short,)}), pictures, tmp_path / "run")
    joined = tmp_path / "ensemble.yaml"
    joined.write_text(yaml.safe_dump({"name": "both", "members": ["other.yaml", "tiny.yaml"]}))

    first, second = tmp_path / "first", tmp_path / "second"
    export(tmp_path / "run", first)
    export(run, second)
    with pytest.raises(TrainingError, match="one embedder each of other, tiny; given are tiny, t"):
        join(joined, [second, second], tmp_path / "both")
    arguments = ["export", str(second), str(first), "--out", str(tmp_path / "both")]
    assert main(arguments) == TrainingError.exit_code
    assert main([*arguments, "--ensemble", str(joined)]) == 0
    with pytest.raises(TrainingError, match="both is not an embedder that a run was exported to"):
        join(joined, [tmp_path / "both", second], tmp_path / "more")

    folders = [tmp_path / "both", first, second]
    both, *members = [Embedder.load(folder, device="cpu", precision="f32") for folder in folders]
    assert both.manifest.name == "both"
    assert [member.name for member in both.manifest.members] == ["other", "tiny"]
    data = view_bytes(2, 77)
    rows = [e.embed([e.prepare(data)])[0] for e in (both, *members)]
    expected = np.concatenate(rows[1:]) / np.sqrt(2)
    assert rows[0] == pytest.approx(expected, abs=1e-5)

    write_npz(first / "golden.npz", **{**read_npz(first / "golden.npz"), "picture_0": np.ones(9)})
    with pytest.raises(ArtifactDamagedError, match=r"golden\.npz"):
        join(joined, [first, second], tmp_path / "both")
    manifest, _ = read_manifest(first)
    files = {**manifest.files, "golden.npz": record(first / "golden.npz")}
    write_manifest(first, manifest.model_copy(update={"files": files}))
    with pytest.raises(ArtifactMismatchError, match=r"golden pictures of .*second"):
        join(joined, [first, second], tmp_path / "both")


@pytest.mark.slow
def test_an_ensemble_keeps_what_all_its_members_advise(run: Path, tmp_path: Path) -> None:
    """Of members that advise differently it keeps nothing."""
    names, folders = ("one", "two"), [tmp_path / "one", tmp_path / "two"]
    for name, folder in zip(names, folders, strict=True):
        export(run, folder)
        _change(folder, name, {"rule": "vote", "neighbors": 3})
    join_named("both", names, folders, tmp_path / "both")
    assert read_manifest(tmp_path / "both")[0].ranking == {"rule": "vote", "neighbors": 3}
    _change(folders[1], "two", {"rule": "vote"})
    join_named("both", names, folders, tmp_path / "both")
    assert read_manifest(tmp_path / "both")[0].ranking == {}


def _change(embedder: Path, name: str, ranking: dict[str, JsonValue]) -> None:
    """Let an embedder's network bear another name, and advise another ranking."""
    manifest, _ = read_manifest(embedder)
    members = (manifest.members[0].model_copy(update={"name": name}),)
    write_manifest(embedder, manifest.model_copy(update={"members": members, "ranking": ranking}))
