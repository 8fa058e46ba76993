"""The files of a run hold the network that was trained, and know their version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from embedder.errors import ArtifactMismatchError, ArtifactMissingError
from tests.recipes import tiny_recipe
from trainer.model import checkpoint, run_folder
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import load_recipe


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Write a checkpoint of a network, of its moving average and of a head, without training."""
    recipe = load_recipe(tiny_recipe(tmp_path / run_folder.RECIPE))
    network, averaged = (EmbeddingNetwork(recipe.network).state_dict() for _ in range(2))
    head = {"weight": torch.ones(4, 16)}
    facts = {"recipe": "sha256:0", "landmarks": ["a", "b"], "progress": {"stage": 1}}
    parts = {"network": network, "averaged": averaged, "head": head}
    checkpoint.save(tmp_path / run_folder.LAST, checkpoint.join_parts(parts), facts)
    del parts["averaged"]
    checkpoint.save(tmp_path / run_folder.BEST, checkpoint.join_parts(parts), facts)
    return tmp_path


def rewrite_version(path: Path, version: int | None) -> None:
    """Write a checkpoint anew, with another version of the format or with none."""
    tensors, facts = checkpoint.load(path)
    del facts["schema_version"]
    changed = facts if version is None else {**facts, "schema_version": version}
    path.write_bytes(safetensors.torch.save(tensors, {"facts": json.dumps(changed)}))


@pytest.mark.parametrize(
    ("file", "part"), [(run_folder.BEST, "network"), (run_folder.LAST, "averaged")]
)
def test_the_average_is_loaded_where_there_is_one(run: Path, file: str, part: str) -> None:
    """Weights, head and landmarks come from the file; nothing is downloaded or left at random."""
    trained = run_folder.load_trained(run, file)
    expected = checkpoint.part(checkpoint.load(run / file)[0], part)
    found = trained.network.state_dict()
    assert len(expected) > 100
    assert [name for name in expected if not expected[name].equal(found[name])] == []
    assert not trained.network.training
    assert trained.head["weight"].shape == (4, 16)
    assert (trained.landmarks, trained.digest) == (["a", "b"], "sha256:0")
    assert not run_folder.is_finished(run)


def test_a_network_of_another_recipe_is_refused(run: Path) -> None:
    """The recipe in the folder has to be the one that was trained."""
    other = load_recipe(run / run_folder.RECIPE, ["network.neck.dimension=8"])
    run_folder.write_recipe(run, other)
    with pytest.raises(ArtifactMismatchError, match=r"expected that of its recipe\.yaml"):
        run_folder.load_trained(run)


def test_missing_files_are_named(run: Path) -> None:
    """A folder without a checkpoint or without a recipe is no run."""
    (run / run_folder.BEST).unlink()
    with pytest.raises(ArtifactMissingError, match=r"best\.safetensors is missing"):
        run_folder.load_trained(run)
    (run / run_folder.RECIPE).unlink()
    with pytest.raises(ArtifactMissingError, match=r"recipe\.yaml is missing"):
        run_folder.load_trained(run)


def test_checkpoints_of_older_versions_open_and_of_newer_ones_are_refused(run: Path) -> None:
    """Without a version it is the first one; a newer one is named."""
    path = run / run_folder.BEST
    assert checkpoint.load_facts(path)["schema_version"] == checkpoint.VERSION
    rewrite_version(path, None)
    assert checkpoint.load_facts(path)["schema_version"] == 1
    assert run_folder.load_trained(run).landmarks == ["a", "b"]
    rewrite_version(path, 99)
    with pytest.raises(ArtifactMismatchError, match="found 99"):
        run_folder.load_trained(run)


def test_a_report_of_a_newer_version_is_refused(run: Path) -> None:
    """Without a version it is the first one; a newer one is named."""
    run_folder.write_report(run, {"seconds": 1.0})
    assert run_folder.read_report(run) == {"seconds": 1.0}
    run_folder.write_report(run, {"schema_version": 99})
    with pytest.raises(ArtifactMismatchError, match="found 99"):
        run_folder.read_report(run)


def test_a_multi_seed_run_is_known_by_a_network_that_has_begun_to_learn(run: Path) -> None:
    """A plain run is none, and neither is a folder with a recipe alone."""
    assert run_folder.holds_checkpoint(run)
    assert not run_folder.holds_multi_seed_run(run)
    several = run / "several"
    several.mkdir()
    run_folder.write_recipe(several, load_recipe(run / run_folder.RECIPE, ["networks=2"]))
    assert not run_folder.holds_multi_seed_run(several)
    (several / "tiny-1").mkdir()
    (several / "tiny-1" / run_folder.LAST).touch()
    assert run_folder.holds_multi_seed_run(several)
