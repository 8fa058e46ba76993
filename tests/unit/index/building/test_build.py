"""From photographs to a published gallery, with a real embedder."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from embedder.embedder import Embedder
from embedder.errors import (
    CatalogError,
    GalleryError,
    StoreBusyError,
    TooManyUnreadableError,
)
from index.building.build import build
from index.building.pipeline import PipelineOptions
from index.building.recipe import BuildRecipe
from index.building.unreadable import REPORT
from index.building.vector_cache import CACHE
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store
from photographs import open_data
from tests.factories import photographs, view_bytes


def content(manifest: GalleryManifest) -> dict[str, object]:
    """Return what a manifest says, but for its name and time."""
    return manifest.model_dump(exclude={"build_id", "created"})


def embed(embedder: Embedder, path: Path) -> np.ndarray:
    """Embed one file directly."""
    return embedder.embed([embedder.prepare(path.read_bytes())])[0]


def test_every_picture_finds_itself(embedder: Embedder, gldv2: Path, tmp_path: Path) -> None:
    """Each row of the catalog has the vector, landmark, path and content of its picture."""
    manifest = build(Store(tmp_path / "s"), embedder, open_data(gldv2))
    gallery = Gallery.open(tmp_path / "s", embedder_digest=embedder.digest)
    assert (len(gallery), manifest.rows, manifest.landmarks) == (12, 12, 3)
    catalog = gallery.catalog
    rows = [catalog.row(number) for number in range(12)]
    assert [row.landmark_id for row in rows] == ["9"] * 4 + ["10"] * 4 + ["700"] * 4
    for number, row in enumerate(rows):
        found = gallery.search(embed(embedder, gldv2 / row.path)[None], 1)
        assert found.rows.item() == number
        assert found.similarities.item() == pytest.approx(1.0, abs=1e-3)
        assert row.bytes == (gldv2 / row.path).stat().st_size
        assert row.mtime_ns == (gldv2 / row.path).stat().st_mtime_ns
    assert catalog.name(0) == "Hawa Mahal"


def test_the_manifest_says_what_the_gallery_was_made_of(
    embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """Embedder, runtime, precision, list and data folder are recorded."""
    manifest = build(Store(tmp_path / "s"), embedder, open_data(gldv2))
    assert manifest.embedder.digest == embedder.digest
    assert (manifest.embedder.runtime, manifest.embedder.precision) == ("openvino", "f32")
    assert (manifest.list.name, manifest.list.pictures) == ("train.csv", 12)
    assert manifest.list.data == str(gldv2)
    assert manifest.kind == "exact"


def test_the_list_is_a_choice(embedder: Embedder, gldv2: Path, tmp_path: Path) -> None:
    """The clean list is preferred where it exists, and any other can be named."""
    (gldv2 / "train_clean.csv").write_text("landmark_id,images\n9,000abc 010abc\n")
    store, data = Store(tmp_path / "s"), open_data(gldv2)
    clean = build(store, embedder, data)
    everything = build(store, embedder, data, BuildRecipe(list_name="train.csv"))
    assert (clean.list.name, clean.rows) == ("train_clean.csv", 2)
    assert (everything.list.name, everything.rows) == ("train.csv", 12)
    with pytest.raises(CatalogError, match=r"nothing\.csv"):
        build(store, embedder, data, BuildRecipe(list_name="nothing.csv"))
    assert store.current() == everything.build_id


def test_a_folder_per_landmark_becomes_a_gallery(embedder: Embedder, tmp_path: Path) -> None:
    """The folder's name is the landmark, and the same file name may occur in two folders."""
    data = photographs(tmp_path / "d", landmarks=3, views=2)
    for folder in sorted(data.iterdir()):
        (folder / "same.jpg").write_bytes(view_bytes(int(folder.name[-1]), 50))
    manifest = build(Store(tmp_path / "s"), embedder, open_data(data))
    assert (manifest.rows, manifest.landmarks, manifest.list.name) == (9, 3, "folders")


def test_pictures_of_no_landmark_are_left_out(
    embedder: Embedder, gldv2: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They could never be an answer; a warning counts them."""
    (gldv2 / "index.csv").write_text("id\n000abc\n010abc\n")
    (gldv2 / "index_image_to_landmark.csv").write_text("id,landmark_id\n000abc,9\n")
    (gldv2 / "train").rename(gldv2 / "index")
    recipe = BuildRecipe(list_name="index.csv")
    assert build(Store(tmp_path / "s"), embedder, open_data(gldv2), recipe).rows == 1
    assert "1 pictures of index.csv show no known landmark" in caplog.text
    (gldv2 / "index_image_to_landmark.csv").unlink()
    with pytest.raises(CatalogError, match="has a landmark"):
        build(Store(tmp_path / "s"), embedder, open_data(gldv2), recipe)


def spoil(directory: Path, count: int) -> list[str]:
    """Make the first ``count`` pictures unreadable, each in its own way; return their ids."""
    ways = (b"", b"this is text", view_bytes(0, 0)[:300], None)
    paths = sorted(directory.rglob("*.jpg"))[:count]
    for number, path in enumerate(paths):
        if (data := ways[number % len(ways)]) is None:
            path.unlink()
        else:
            path.write_bytes(data)
    return [path.stem for path in paths]


def test_unreadable_pictures_are_counted_named_and_skipped(
    embedder: Embedder, gldv2: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each has a reason: an empty file, text, a truncated picture, an absent one."""
    spoiled = spoil(gldv2 / "train", 4)
    manifest = build(Store(tmp_path / "s"), embedder, open_data(gldv2))
    assert (manifest.rows, manifest.unreadable, manifest.landmarks) == (8, 4, 2)
    report = Store(tmp_path / "s").directory() / REPORT
    lines = list(csv.DictReader(report.read_text().splitlines()))
    assert [line["id"] for line in lines] == spoiled
    reasons = [line["reason"] for line in lines]
    assert len(set(reasons)) == 4
    assert "empty" in reasons[0]
    assert "No such file" in reasons[3]
    assert all(Path(line["path"]).name == f"{line['id']}.jpg" for line in lines)
    assert f"4 pictures cannot be read; {report}" in caplog.text
    catalog = Gallery.open(tmp_path / "s", embedder_digest=None).catalog
    assert not {catalog.picture_id(row) for row in range(8)} & set(spoiled)


def test_too_many_unreadable_pictures_stop_the_build(
    embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """What was published stays, and the report named in the error names every one of them."""
    store, data = Store(tmp_path / "s"), open_data(gldv2)
    before = build(store, embedder, data)
    spoiled = spoil(gldv2 / "train", 6)
    with pytest.raises(TooManyUnreadableError) as caught:
        build(store, embedder, data)
    assert store.current() == before.build_id
    assert (caught.value.unreadable, caught.value.total) == (6, 12)
    lines = list(csv.DictReader(caught.value.report.read_text().splitlines()))
    assert [line["id"] for line in lines] == spoiled
    assert str(caught.value.report) in str(caught.value)


@pytest.mark.parametrize(("share", "stops"), [(0.0, True), (0.16, True), (0.17, False), (1, False)])
def test_the_limit_is_the_share_asked_for(
    embedder: Embedder, gldv2: Path, tmp_path: Path, *, share: float, stops: bool
) -> None:
    """Two of twelve, 16.7 %, pass a limit of 17 % and no smaller one."""
    spoil(gldv2 / "train", 2)
    store, recipe = Store(tmp_path / "s"), BuildRecipe(max_unreadable=share)
    if stops:
        with pytest.raises(TooManyUnreadableError):
            build(store, embedder, open_data(gldv2), recipe)
    else:
        assert build(store, embedder, open_data(gldv2), recipe).unreadable == 2


def test_the_limit_is_one_in_a_hundred_of_many() -> None:
    """By default five pictures or 1 %, whichever is more."""
    assert BuildRecipe().limit(10_000) == 0.01
    assert BuildRecipe().limit(100) == 0.05


def test_a_gallery_of_nothing_is_refused(embedder: Embedder, gldv2: Path, tmp_path: Path) -> None:
    """Even where every picture may be unreadable, one has to be left."""
    spoil(gldv2 / "train", 12)
    with pytest.raises(GalleryError, match=r"none of the pictures of .*gldv2 can be read"):
        build(Store(tmp_path / "s"), embedder, open_data(gldv2), BuildRecipe(max_unreadable=1.0))


def test_a_stopped_build_goes_on_when_the_pictures_are_mended(
    embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """A picture that was unreadable, or changed since it was embedded, is read again."""
    data = open_data(gldv2)
    path = gldv2 / "train/0/0/0/000abc.jpg"
    whole = path.read_bytes()
    path.write_bytes(b"")
    store = Store(tmp_path / "s")
    with pytest.raises(TooManyUnreadableError):
        build(store, embedder, data, BuildRecipe(max_unreadable=0.0))
    assert (store.unfinished / CACHE).is_file()
    path.write_bytes(whole)
    assert build(store, embedder, data, BuildRecipe(max_unreadable=0.0)).rows == 12
    assert not list(store.work.iterdir())


def test_batches_and_readers_do_not_change_the_gallery(
    embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """Two builds are the same files, but for their name and time."""
    spoil(gldv2 / "train", 3)
    data = open_data(gldv2)
    recipes = [BuildRecipe(pipeline=PipelineOptions(5, readers)) for readers in (1, 8)]
    slow = build(Store(tmp_path / "1"), embedder, data, recipes[0])
    fast = build(Store(tmp_path / "2"), embedder, data, recipes[1])
    assert content(slow) == content(fast)


def test_a_second_build_at_once_is_refused(embedder: Embedder, gldv2: Path, tmp_path: Path) -> None:
    """One writer at a time."""
    store = Store(tmp_path / "s")
    with store.writing(), pytest.raises(StoreBusyError):
        build(Store(tmp_path / "s"), embedder, open_data(gldv2))
