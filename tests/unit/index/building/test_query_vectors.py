"""Queries are embedded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedder.embedder import Embedder
from index.building.embedded import EmbeddedBatch
from index.building.pipeline import PipelineOptions
from index.building.query_vectors import embed_paths
from tests.factories import picture_bytes
from tests.unit.index.conftest import count_embedded


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Write nine pictures, the last of which is none."""
    folder = tmp_path / "queries"
    folder.mkdir()
    paths = [folder / f"{seed}.jpg" for seed in range(9)]
    for seed, path in enumerate(paths):
        path.write_bytes(picture_bytes(seed))
    paths[-1].write_bytes(b"text")
    return paths


def embed(paths: list[Path], embedder: Embedder, cache: Path | None) -> EmbeddedBatch:
    """Embed them as a command does."""
    options = PipelineOptions(4, 2, cache)
    return EmbeddedBatch.join(embed_paths(paths, embedder, "embed", options))


def test_queries_are_embedded_once(
    embedder: Embedder, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same vectors to the bit and the same faults, without the network; new ones are added."""
    cache = tmp_path / "new" / "vectors.sqlite"
    first = embed(paths[1:], embedder, cache)
    assert first.embedded == 7
    sizes = count_embedded(monkeypatch)
    again = embed(paths[1:], embedder, cache)
    assert (again.embedded, sizes) == (0, [])
    assert again.vectors.tobytes() == first.vectors.tobytes()
    assert again.pictures == first.pictures
    assert not again.pictures[-1].usable
    more = embed(paths, embedder, cache)
    assert (more.embedded, sizes) == (1, [1])
    assert more.vectors[1:].tobytes() == first.vectors.tobytes()


def test_a_moved_query_is_known_by_its_content(
    embedder: Embedder, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that was replaced is embedded, though its name is known."""
    cache = tmp_path / "vectors.sqlite"
    first = embed(paths, embedder, cache)
    moved = paths[0].parent.rename(tmp_path / "moved")
    places = [moved / path.name for path in paths]
    sizes = count_embedded(monkeypatch)
    assert embed(places, embedder, cache).vectors.tobytes() == first.vectors.tobytes()
    assert sizes == []
    places[0].write_bytes(picture_bytes(77))
    changed = embed(places, embedder, cache)
    assert changed.embedded == 1
    assert not np.allclose(changed.vectors[0], first.vectors[0])


def test_without_a_cache_every_command_embeds(
    embedder: Embedder, paths: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where none was asked for, and with a warning where it cannot be used."""
    unusable = tmp_path / "vectors.sqlite"
    unusable.mkdir()
    batches = [embed(paths, embedder, cache) for cache in (None, unusable, unusable)]
    assert [batch.embedded for batch in batches] == [8, 8, 8]
    assert len({batch.vectors.tobytes() for batch in batches}) == 1
    assert caplog.text.count("vectors are not kept for the next command") == 2


def test_a_picture_that_cannot_be_read_is_read_again(
    embedder: Embedder, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next command may be able to, though the file is the same."""
    cache = tmp_path / "vectors.sqlite"
    embed(paths, embedder, cache)
    prepare = Embedder.prepare
    monkeypatch.setattr(
        Embedder,
        "prepare",
        lambda self, data: prepare(self, picture_bytes(99) if data == b"text" else data),
    )
    again = embed(paths, embedder, cache)
    assert again.embedded == 1
    assert again.pictures[-1].usable
