"""Stages exchange only files: every command that reads a gallery refuses what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from embedder.artifacts.files import record
from embedder.manifest import read_manifest as read_embedder
from index.cli import main
from index.gallery.catalog import CATALOG, Catalog, CatalogWriter
from index.gallery.gallery import VECTORS
from index.gallery.manifest import read_manifest, write_manifest
from index.gallery.store import Store
from tests.factories import photographs, tiny_embedder

MISMATCH = 3
"""The exit code of an artifact that cannot be trusted."""


class Chain:
    """Photographs, the embedder that a gallery was made with, another one, and the store.

    Args:
        root: Where all of them are made.
    """

    def __init__(self, root: Path) -> None:
        self.data = photographs(root / "data", landmarks=3, views=4)
        self.own, self.other = (tiny_embedder(root / f"{seed}", seed=seed) for seed in (0, 1))
        self.store, self.out = root / "store", root / "out.csv"
        assert self.run("build", self.own) == 0

    @property
    def gallery(self) -> Path:
        """The directory of the published gallery."""
        return Store(self.store).directory()

    def run(self, command: str, embedder: Path) -> int:
        """Run a command and return its exit code."""
        pictures = ["--pictures", str(self.data), "--out", str(self.out)]
        more = {"predict": pictures, "rebuild": [], "verify": []}
        asked = more.get(command, ["--data", str(self.data)])
        both = ["--store", str(self.store), "--embedder", str(embedder), "--threads", "1"]
        return main([command, *both, *asked])


def truncate_vectors(chain: Chain) -> str:
    """Cut the vectors off in the middle, and name their file."""
    path = chain.gallery / VECTORS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return VECTORS


def shorten_catalog(chain: Chain) -> str:
    """Write a whole, recorded catalog that lacks the last row, and name its file."""
    directory, manifest = chain.gallery, read_manifest(chain.gallery)
    catalog = Catalog.open(directory)
    rows = [catalog.row(row) for row in range(len(catalog) - 1)]
    with CatalogWriter(directory, {}) as writer:
        writer.add(rows)
    files = {name: record(directory / name) for name in manifest.files}
    write_manifest(directory, manifest.model_copy(update={"files": files}))
    return CATALOG


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Build a gallery of twelve pictures."""
    return Chain(tmp_path)


@pytest.mark.parametrize("command", ["predict", "verify", "rebuild", "add"])
@pytest.mark.parametrize("spoil", [truncate_vectors, shorten_catalog])
def test_a_spoiled_gallery_is_refused_by_the_name_of_its_file(
    chain: Chain, capsys: pytest.CaptureFixture[str], spoil: Callable[[Chain], str], command: str
) -> None:
    """Whether it is asked, proved, or about to be copied; and it stays as it is."""
    named, before = spoil(chain), chain.gallery
    assert chain.run(command, chain.own) == MISMATCH
    assert str(chain.gallery / named) in capsys.readouterr().err.splitlines()[-1]
    assert chain.gallery == before


@pytest.mark.parametrize("command", ["predict", "verify", "add"])
def test_another_embedder_is_refused_with_both_digests(
    chain: Chain, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Only a rebuild may change the embedder of a gallery."""
    before = chain.gallery
    assert chain.run(command, chain.other) == MISMATCH
    told = capsys.readouterr().err.splitlines()[-1]
    for directory in (chain.own, chain.other):
        _, digest = read_embedder(directory)
        assert digest in told
    assert chain.gallery == before
    assert not chain.out.exists()
