"""An embedder is put in place as a whole, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from embedder.embedder import Embedder
from embedder.errors import ArtifactDamagedError
from embedder.manifest import Member, read_manifest
from tests.factories import tiny_embedder
from trainer.export.artifact import Description, publish


def copy_of(source: Path, folder: Path) -> Sequence[Member]:
    """Copy the files of an embedder; return its networks."""
    for path in source.iterdir():
        if path.name != "manifest.json":
            shutil.copy(path, folder)
    return read_manifest(source)[0].members


def test_a_published_embedder_is_described_and_opens(tmp_path: Path) -> None:
    """Name, provenance and ranking are those given; nothing else is left beside it."""
    source = tiny_embedder(tmp_path / "source")
    description = Description("mine", {"run": "x"}, {"rule": "vote"})
    out = tmp_path / "out" / "embedder"
    digest = publish(out, description, lambda folder: copy_of(source, folder), Embedder.load)
    manifest, found = read_manifest(out)
    assert (manifest.name, manifest.ranking, digest) == ("mine", {"rule": "vote"}, found)
    assert manifest.provenance["run"] == "x"
    assert "torch" in manifest.provenance
    assert list(out.parent.iterdir()) == [out]


def test_an_embedder_that_fails_its_proof_replaces_nothing(tmp_path: Path) -> None:
    """The old one stays as it was."""
    out = tiny_embedder(tmp_path / "embedder")
    _, before = read_manifest(out)

    def refuse(folder: Path) -> None:
        raise ArtifactDamagedError(folder, "it does not agree")

    with pytest.raises(ArtifactDamagedError, match="does not agree"):
        publish(out, Description("new", {}), lambda folder: copy_of(out, folder), refuse)
    assert read_manifest(out)[1] == before
    assert list(tmp_path.iterdir()) == [out]
