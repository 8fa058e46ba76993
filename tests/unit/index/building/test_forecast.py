"""A build says what it is about to do, and does not begin what the disk cannot hold."""

from __future__ import annotations

import logging
import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from embedder.embedder import Embedder
from embedder.errors import GalleryError
from index.building import embeddings
from index.building.build import build
from index.building.embedded import Tally
from index.building.embedder_choice import EmbedderChoice
from index.building.pipeline import PipelineOptions
from index.building.rebuild import rebuild
from index.building.recipe import BuildRecipe
from index.building.writer import GalleryWriter
from index.cli_options import Making
from index.gallery.store import Store
from photographs import open_data
from tests.factories import tiny_embedder, view_bytes
from tests.unit.index.conftest import count_embedded

Usage = namedtuple("Usage", "total used free")
"""As ``shutil.disk_usage`` returns it."""


def test_a_build_says_what_it_will_do(
    embedder: Embedder, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pictures, landmarks, those that are known already, and the disk."""
    caplog.set_level(logging.INFO)
    store = Store(tmp_path / "s")
    with pytest.raises(GalleryError, match="below the stated floor"):
        build(store, embedder, open_data(data), BuildRecipe(min_recall=1.1))
    assert "30 pictures of 5 landmarks; 0 are known and 30 will be embedded" in caplog.text
    assert re.search(r"it needs up to 0\.0 GB of disk, of which \d+\.\d GB are free", caplog.text)
    (data / "landmark-1/another.jpg").write_bytes(view_bytes(1, 101))
    tally = Tally()
    build(store, embedder, open_data(data), tally=tally)
    assert "31 pictures of 5 landmarks; 30 are known and 1 will be embedded" in caplog.text
    assert (tally.embedded, tally.known) == (1, 30)


def test_what_the_disk_cannot_hold_is_not_begun(
    embedder: Embedder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence names both figures, and nothing is embedded; enough room is enough."""
    sizes = count_embedded(monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 1 << 40, 1000))
    store = Store(tmp_path / "s")
    with pytest.raises(GalleryError, match=r"has no room .* needs 0\.0 GB .* 0\.0 GB are free"):
        build(store, embedder, open_data(data))
    assert sizes == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 1 << 40, 1 << 20))
    assert build(store, embedder, open_data(data)).rows == 30


def test_how_long_it_takes_is_said_once_the_rate_is_known(
    embedder: Embedder,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After the first seconds, and not again."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(embeddings, "_RATE_SECONDS", 0.0)
    recipe = BuildRecipe(pipeline=PipelineOptions(batch_pictures=4))
    build(Store(tmp_path / "s"), embedder, open_data(data), recipe)
    assert len(re.findall(r"\d+ pictures a second: about 1 minutes to go", caplog.text)) == 1


def test_a_content_is_embedded_once(
    embedder: Embedder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is there twice takes the vector of the first, killed or not."""
    first = data / "landmark-0/picture-0-0.jpg"
    (data / "landmark-4/picture-0-0.jpg").write_bytes(first.read_bytes())
    recipe = BuildRecipe(pipeline=PipelineOptions(batch_pictures=4))
    store, tally = Store(tmp_path / "s"), Tally()
    with monkeypatch.context() as patch:
        patch.setattr(GalleryWriter, "publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(store, embedder, open_data(data), recipe)
    resumed = build(store, embedder, open_data(data), recipe, tally)
    assert (tally.embedded, tally.known) == (0, 31)
    undisturbed = build(Store(tmp_path / "u"), embedder, open_data(data), recipe, tally)
    assert (tally.embedded, tally.known) == (30, 1)
    assert undisturbed.files == resumed.files


def test_work_of_another_embedder_stays(
    store: Store,
    choice: EmbedderChoice,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rebuild that publishes does not throw away what a killed build of another one has done."""
    other = Embedder.load(tiny_embedder(tmp_path / "other", seed=1), precision="f32", threads=1)
    with monkeypatch.context() as patch:
        patch.setattr(GalleryWriter, "publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(store, other, open_data(data))
    (data / "landmark-1/another.jpg").write_bytes(view_bytes(1, 101))
    tally = Tally()
    assert rebuild(store, choice, tally=tally).rows == 31
    assert (tally.embedded, tally.known) == (1, 30)
    assert build(store, other, open_data(data), tally=tally).rows == 31
    assert (tally.embedded, tally.known) == (1, 30)
    assert not list(store.work.iterdir())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("exakt", "the kind is auto, exact, fastscan or a factory string of FAISS"),
        ("PQ3x4fs", "'PQ3x4fs,Refine.SQfp16.' of 8 numbers"),
        ("HNSW8;nprobe=3", "of 8 numbers"),
        ("IDMap,Flat", "of 8 numbers"),
        ("IVF64,PQ2x4fs", "of 30 pictures: it groups vectors around 64 of them"),
        ("RR8,PQ2", "of 30 pictures: it groups vectors around 256 of them"),
        ("PQ2x4fs,Refine(Flat)", "another refinement"),
    ],
)
def test_a_kind_that_cannot_be_made_is_refused_before_the_first_picture(
    embedder: Embedder,
    data: Path,
    tmp_path: Path,
    kind: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not after hours of embedding; also by the command, before it embeds distractors."""
    embedded, store = count_embedded(monkeypatch), Store(tmp_path / "s")
    with pytest.raises(GalleryError, match=reason):
        build(store, embedder, open_data(data), BuildRecipe(kind=kind))
    assert not sum(embedded)
    if "pictures" not in reason:
        with pytest.raises(GalleryError, match=reason):
            Making(kind=kind).check(embedder)


def test_a_kind_that_is_kept_is_checked_too(
    store: Store, choice: EmbedderChoice, embedder: Embedder, data: Path
) -> None:
    """A gallery that has become too small for it says so."""
    build(store, embedder, open_data(data), BuildRecipe(kind="IVF16,PQ2x4fs"))
    for picture in sorted(data.rglob("*.jpg"))[:20]:
        picture.unlink()
    with pytest.raises(GalleryError, match="of 10 pictures: it groups vectors around 16"):
        rebuild(store, choice)
    assert rebuild(store, choice, BuildRecipe(kind="exact")).rows == 10
