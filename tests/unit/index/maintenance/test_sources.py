"""The sources of a gallery: listed, dropped, relocated."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from embedder.errors import CatalogError, GalleryError
from index.building.compact import compact
from index.building.embedder_choice import EmbedderChoice
from index.building.pipeline import PipelineOptions
from index.building.rebuild import rebuild
from index.building.recipe import BuildRecipe
from index.building.unreadable import REPORT, read_left_out
from index.cli import main
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.maintenance.add import add
from index.maintenance.remove import remove
from index.maintenance.sources import drop_source, list_sources, relocate_source
from photographs import open_data
from tests.factories import view_bytes


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """Write two pictures of a new landmark, one of a known one, and one that is none."""
    folder = tmp_path / "more"
    for name, landmark in (("landmark-9/a", 9), ("landmark-9/b", 9), ("landmark-0/c", 0)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jpg").write_bytes(view_bytes(landmark, ord(name[-1])))
    (folder / "landmark-9/bad.jpg").write_bytes(b"text")
    return folder


def live(store: Store) -> set[str]:
    """Return the ids of the pictures that a search can find."""
    with closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        ids = gallery.catalog.column("picture_id").to_pylist()
        return {name for name in ids if gallery.find_picture(name) is not None}


def test_sources_are_listed_with_what_the_gallery_has_of_them(
    store: Store, choice: EmbedderChoice, data: Path, more: Path
) -> None:
    """Pictures that the list names, those that can be found, and whether the folder is there."""
    add(store, choice, open_data(more), prefix="new/")
    remove(store, pictures=["new/landmark-9/a"])
    data.rename(data.with_name("elsewhere"))
    first, second = list_sources(store)
    assert (first.data, first.prefix, first.listed, first.rows) == (str(data), "", 30, 30)
    assert (second.data, second.prefix, second.listed, second.rows) == (str(more), "new/", 4, 2)
    assert (first.list, first.present, second.present) == ("folders", False, True)


def test_a_folder_that_is_gone_is_dropped(
    store: Store, choice: EmbedderChoice, data: Path, more: Path
) -> None:
    """A rebuild names the way; afterwards it works, and the folder may come back."""
    before = live(store)
    add(store, choice, open_data(more))
    gone = more.rename(more.with_name("gone"))
    with pytest.raises(CatalogError, match=r"more: the folder is gone; .* drop"):
        rebuild(store, choice)
    manifest = drop_source(store, more)
    assert (manifest.rows - manifest.removed, manifest.unreadable) == (30, 0)
    assert manifest.landmarks == 5
    assert read_left_out(store.directory() / REPORT) == []
    assert live(store) == before
    assert [source.data for source in list_sources(store)] == [str(data)]
    manifest = rebuild(store, choice)
    assert (manifest.rows - manifest.removed, manifest.landmarks) == (30, 5)
    with pytest.raises(CatalogError, match=r"it is no source of the gallery; there are .*data"):
        drop_source(store, more)
    gone.rename(more)
    assert add(store, choice, open_data(more)).unreadable == 1
    assert live(store) == {*before, "landmark-9/a", "landmark-9/b", "landmark-0/c"}
    assert rebuild(store, choice).build_id == store.current()


def test_the_first_folder_can_be_dropped(
    store: Store, choice: EmbedderChoice, data: Path, more: Path
) -> None:
    """The ids of the others stay as they are; the last one is not dropped."""
    add(store, choice, open_data(more), prefix="new/")
    shutil.rmtree(data)
    drop_source(store, data)
    expected = {"new/landmark-9/a", "new/landmark-9/b", "new/landmark-0/c"}
    assert live(store) == expected
    manifest = rebuild(store, choice, data=[more])
    assert (live(store), manifest.rows - manifest.removed) == (expected, 3)
    with pytest.raises(GalleryError, match="nothing would be left"):
        drop_source(store, more)


def test_what_was_removed_of_a_dropped_folder_is_forgotten(
    store: Store, choice: EmbedderChoice, more: Path
) -> None:
    """It comes back when the folder is added again; what was removed of others stays out."""
    add(store, choice, open_data(more))
    remove(store, landmarks=["landmark-9", "landmark-1"])
    drop_source(store, more)
    add(store, choice, open_data(more))
    found = live(store)
    assert {"landmark-9/a", "landmark-9/b"} < found
    assert not any(name.startswith("landmark-1/") for name in found)


@pytest.mark.usefixtures("never")
def test_a_relocated_folder_is_not_embedded_again(
    store: Store, choice: EmbedderChoice, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rebuilds read it where it is now; what is missing there is counted."""
    moved = data.rename(data.with_name("moved"))
    (moved / "landmark-0/picture-0-0.jpg").unlink()
    manifest = relocate_source(store, data, moved)
    assert manifest.list.data == str(moved)
    assert "1 of 30 pictures are not in" in caplog.text
    assert [source.present for source in list_sources(store)] == [True]
    assert rebuild(store, choice).rows in (29, 30)
    assert len(live(store)) == 29


def test_a_folder_without_the_pictures_is_refused(
    store: Store, choice: EmbedderChoice, data: Path, more: Path, tmp_path: Path
) -> None:
    """So is one that the gallery has already, and one that it does not have."""
    before = store.current()
    with pytest.raises(CatalogError, match="none of its 30 pictures is there"):
        relocate_source(store, data, more)
    with pytest.raises(CatalogError, match="it is no source of the gallery"):
        relocate_source(store, tmp_path / "unknown", data)
    assert store.current() == before
    add(store, choice, open_data(more))
    with pytest.raises(CatalogError, match="has this folder already"):
        relocate_source(store, data, more)


def test_the_commands_print_json_and_name_a_list(
    store: Store, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit codes are those of the errors."""
    folder = ["--store", str(store.path), "--data", str(data)]
    assert main(["sources", "relocate", *folder, "--to", str(tmp_path / "nowhere")]) == 5
    data.rename(tmp_path / "new")
    capsys.readouterr()
    assert main(["sources", "relocate", *folder, "--to", str(tmp_path / "new")]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 30
    assert main(["sources", "list", "--store", str(store.path)]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["sources"]
    assert (listed["data"], listed["list"], listed["rows"]) == (
        str(tmp_path / "new"),
        "folders",
        30,
    )
    folder = ["--store", str(store.path), "--data", str(tmp_path / "new")]
    assert main(["sources", "drop", *folder, "--list", "other.csv"]) == 5
    assert main(["sources", "drop", *folder, "--list", "folders"]) == 6


def test_the_command_add_takes_a_prefix(
    store: Store, embedder_directory: Path, more: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ids of the folder begin with it."""
    made = ["--store", str(store.path), "--embedder", str(embedder_directory), "--threads", "1"]
    assert main(["add", *made, "--data", str(more), "--prefix", "2026/"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 33
    assert "2026/landmark-9/a" in live(store)


def test_compact_forgets_a_dropped_source(
    store: Store, choice: EmbedderChoice, data: Path, more: Path, tmp_path: Path
) -> None:
    """Rows, tombstones and report name those that are left by their new places; limits stay."""
    third = tmp_path / "third/landmark-8"
    third.mkdir(parents=True)
    for number in range(3):
        (third / f"{number}.jpg").write_bytes(view_bytes(8, number) if number else b"text")
    add(store, choice, open_data(more))
    recipe = BuildRecipe(pipeline=PipelineOptions(max_pixels=70_000_000))
    add(store, choice, open_data(third.parent), recipe)
    remove(store, pictures=["landmark-8/1"])
    drop_source(store, more)
    left = live(store)
    manifest = compact(store)
    assert [source.data for source in manifest.sources] == [str(data), str(third.parent)]
    assert (manifest.rows, manifest.removed, manifest.landmarks) == (31, 0, 6)
    assert manifest.limits.max_pixels == 70_000_000
    assert live(store) == left
    assert [line.source for line in read_left_out(store.directory() / REPORT)] == [1]
    assert [source.rows for source in list_sources(store)] == [30, 1]
    assert rebuild(store, choice).build_id == manifest.build_id
