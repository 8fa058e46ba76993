"""A folder of photographs added to a published gallery."""

from __future__ import annotations

import csv
import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest

from embedder.embedder import Embedder
from embedder.errors import (
    ArtifactMismatchError,
    CatalogError,
    GalleryError,
    TooManyUnreadableError,
)
from index.building.build import build
from index.building.embedder_choice import EmbedderChoice
from index.building.rebuild import rebuild
from index.building.unreadable import REPORT
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.store import Store
from index.gallery.tombstones import TOMBSTONES
from index.maintenance.add import add
from index.maintenance.remove import remove
from photographs import open_data
from tests.factories import photographs, tiny_embedder, view_bytes
from tests.unit.index.conftest import count_embedded


def test_added_pictures_take_their_places(
    store: Store,
    choice: EmbedderChoice,
    embedder: Embedder,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of known landmarks and new ones: only they are embedded, and rows stay in their order."""
    more = tmp_path / "more"
    shutil.copytree(data / "landmark-0", more / "landmark-0")
    photographs(more, landmarks=1, views=1)
    (more / "landmark-0/new.jpg").write_bytes(view_bytes(0, 50))
    photographs(tmp_path / "others", landmarks=7, views=3)
    shutil.copytree(tmp_path / "others/landmark-6", more / "landmark-10")
    embedded = count_embedded(monkeypatch)
    manifest = add(store, choice, open_data(more))
    assert sum(embedded) == 4
    assert (manifest.rows, manifest.landmarks) == (34, 6)
    assert [source.data for source in manifest.sources] == [str(data), str(more)]
    together = tmp_path / "together"
    shutil.copytree(data, together)
    shutil.copytree(more, together, dirs_exist_ok=True)
    build(Store(tmp_path / "full"), embedder, open_data(together))
    stores = (store.path, tmp_path / "full")
    ours, theirs = (Gallery.open(path, embedder_digest=None) for path in stores)
    assert ours.catalog.column("picture_id").equals(theirs.catalog.column("picture_id"))
    files = [gallery.directory / VECTORS for gallery in (ours, theirs)]
    assert files[0].read_bytes() == files[1].read_bytes()
    row = ours.catalog.column("picture_id").to_pylist().index("landmark-0/new")
    assert ours.catalog.row(row).source == 1
    assert (more / ours.catalog.row(row).path).is_file()
    assert add(store, choice, open_data(more)).build_id == manifest.build_id
    assert rebuild(store, choice).build_id == manifest.build_id


def cameras(folder: Path, *, view: int) -> Path:
    """Write three pictures under the names that every camera gives, one of them that of data."""
    for landmark in range(3):
        path = folder / f"landmark-{landmark}" / f"picture-{landmark}-0.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(view_bytes(landmark, view + landmark))
    return folder


def shown(store: Store) -> dict[str, str]:
    """Return the file of each picture of the published gallery, by id."""
    with closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        rows = [gallery.catalog.row(row) for row in range(len(gallery.catalog))]
        roots = [source.data for source in gallery.manifest.sources]
    return {row.picture_id: f"{roots[row.source]}/{row.path}" for row in rows}


def test_equal_file_names_in_two_folders_are_two_pictures(
    store: Store, choice: EmbedderChoice, tmp_path: Path
) -> None:
    """The ids of the later folder begin with its name; also where two folders have that name."""
    before = shown(store)
    first = add(store, choice, open_data(cameras(tmp_path / "a/my camera", view=50)))
    second = add(store, choice, open_data(cameras(tmp_path / "b/my camera", view=60)))
    assert [source.prefix for source in second.sources] == ["", "my-camera/", "my-camera-2/"]
    assert (first.rows, second.rows, second.landmarks) == (33, 36, 5)
    pictures = shown(store)
    assert before.items() < pictures.items()
    assert pictures["my-camera/landmark-1/picture-1-0"] == str(
        tmp_path / "a/my camera/landmark-1/picture-1-0.jpg"
    )
    assert pictures["my-camera-2/landmark-1/picture-1-0"].startswith(f"{tmp_path}/b/")
    assert rebuild(store, choice).build_id == second.build_id
    assert add(store, choice, open_data(tmp_path / "a/my camera")).build_id == second.build_id


@pytest.mark.parametrize("rebuilt", [True, False])
def test_one_picture_of_a_folder_with_a_prefix_is_removed(
    store: Store,
    choice: EmbedderChoice,
    tmp_path: Path,
    rebuilt: bool,  # noqa: FBT001 (parametrized)
) -> None:
    """Its namesakes elsewhere stay, also those that are added later."""
    more = cameras(tmp_path / "more", view=50)
    add(store, choice, open_data(more))
    remove(store, pictures=["more/landmark-1/picture-1-0"])
    if rebuilt:
        rebuild(store, choice)
    manifest = add(store, choice, open_data(cameras(tmp_path / "others", view=60)))
    assert manifest.rows - manifest.removed == 35
    assert "landmark-1/picture-1-0" in shown(store)
    assert "others/landmark-1/picture-1-0" in shown(store)
    assert "more/landmark-1/picture-1-0" not in shown(store)


@pytest.mark.usefixtures("never")
def test_a_copy_in_another_folder_is_the_same_picture(
    store: Store, choice: EmbedderChoice, data: Path, tmp_path: Path
) -> None:
    """It is compared with what the gallery recorded: the first folder may be absent."""
    shutil.copytree(data / "landmark-0", tmp_path / "more/landmark-0")
    data.rename(tmp_path / "unplugged")
    manifest = add(store, choice, open_data(tmp_path / "more"))
    assert (manifest.rows, [source.prefix for source in manifest.sources]) == (30, ["", ""])


def test_an_absent_folder_keeps_its_pictures(
    store: Store, choice: EmbedderChoice, data: Path, tmp_path: Path
) -> None:
    """A picture of the same name is not taken for its copy."""
    more = cameras(tmp_path / "more", view=50)
    data.rename(tmp_path / "unplugged")
    manifest = add(store, choice, open_data(more))
    assert (manifest.rows, manifest.added[0].prefix) == (33, "more/")


def test_a_prefix_can_be_chosen(store: Store, choice: EmbedderChoice, tmp_path: Path) -> None:
    """It holds for the folder from then on; another one later is refused."""
    more = open_data(cameras(tmp_path / "more", view=50))
    manifest = add(store, choice, more, prefix="2026/")
    assert "2026/landmark-0/picture-0-0" in shown(store)
    assert add(store, choice, more).build_id == manifest.build_id
    assert rebuild(store, choice).build_id == manifest.build_id
    with pytest.raises(CatalogError, match="begin with '2026/'"):
        add(store, choice, more, prefix="other/")


@pytest.mark.parametrize("given", ["", "e\u0301te/"])
def test_a_prefix_is_in_the_normal_form_of_ids(
    store: Store, choice: EmbedderChoice, tmp_path: Path, given: str
) -> None:
    """Whether it is the name of a folder from a Mac, or given."""
    add(store, choice, open_data(cameras(tmp_path / "e\u0301te", view=50)), prefix=given)
    assert "\u00e9te/landmark-0/picture-0-0" in shown(store)


def test_ids_that_collide_later_are_told_apart(
    store: Store,
    choice: EmbedderChoice,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rebuild gives the prefix, embeds nothing again, and keeps out what was removed."""
    more = cameras(tmp_path / "more", view=50)
    for name in ("landmark-0", "landmark-1", "landmark-2"):
        (more / name).rename(more / f"{name}0")
    add(store, choice, open_data(more))
    remove(store, pictures=["landmark-10/picture-1-0"])
    (data / "landmark-00").mkdir()
    (data / "landmark-00/picture-0-0.jpg").write_bytes(view_bytes(0, 80))
    embedded = count_embedded(monkeypatch)
    manifest = rebuild(store, choice)
    assert (sum(embedded), manifest.added[0].prefix) == (1, "more/")
    assert {name for name in shown(store) if "0/" in name} == {
        *(f"landmark-0/picture-0-{view}" for view in range(6)),
        "landmark-00/picture-0-0",
        "more/landmark-00/picture-0-0",
        "more/landmark-20/picture-2-0",
    }
    assert rebuild(store, choice).build_id == manifest.build_id


def test_only_the_gallerys_embedder_can_add(store: Store, data: Path, tmp_path: Path) -> None:
    """Vectors of two embedders cannot be compared."""
    other = EmbedderChoice(tiny_embedder(tmp_path / "other", seed=1))
    with pytest.raises(ArtifactMismatchError, match="only a rebuild"):
        add(store, other, open_data(data))


def test_unreadable_pictures_are_reported_once(
    store: Store, choice: EmbedderChoice, data: Path, tmp_path: Path
) -> None:
    """Those of the gallery and those of what is added stand in one report."""
    (data / "landmark-0/picture-0-0.jpg").write_bytes(b"")
    rebuild(store, choice)
    more = photographs(tmp_path / "more", landmarks=7, views=2)
    for known in range(6):
        shutil.rmtree(more / f"landmark-{known}")
    (more / "landmark-6/bad.jpg").write_bytes(b"text")
    for _ in range(2):
        manifest = add(store, choice, open_data(more))
        lines = list(csv.DictReader((store.directory() / REPORT).read_text().splitlines()))
        assert [line["id"] for line in lines] == ["landmark-0/picture-0-0", "landmark-6/bad"]
        assert (manifest.unreadable, manifest.rows) == (2, 31)


@pytest.mark.parametrize(("bad", "error"), [(6, TooManyUnreadableError), (5, GalleryError)])
def test_a_folder_of_unreadable_pictures_is_refused(
    store: Store, choice: EmbedderChoice, tmp_path: Path, bad: int, error: type[GalleryError]
) -> None:
    """What may be unreadable is a share of what is new, and something has to be readable."""
    before, folder = store.current(), tmp_path / "more/landmark-9"
    folder.mkdir(parents=True)
    for number in range(bad):
        (folder / f"{number}.jpg").write_bytes(b"text")
    with pytest.raises(error) as caught:
        add(store, choice, open_data(tmp_path / "more"))
    assert caught.tb  # which keeps what it went through
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]
    assert store.current() == before
    (folder / "good.jpg").write_bytes(view_bytes(9, 0))
    if bad == 5:
        manifest = add(store, choice, open_data(tmp_path / "more"))
        assert (manifest.rows, manifest.unreadable) == (31, 5)


def test_adding_brings_back_what_was_removed(
    store: Store, choice: EmbedderChoice, data: Path
) -> None:
    """Naming a picture again is a newer decision."""
    remove(store, landmarks=["landmark-3"], pictures=["landmark-0/picture-0-1"])
    rebuild(store, choice)
    manifest = add(store, choice, open_data(data))
    assert (manifest.rows, manifest.removed, manifest.added) == (30, 0, ())
    assert TOMBSTONES not in manifest.files


def test_links_of_landmarks_are_kept(
    embedder: Embedder, choice: EmbedderChoice, gldv2: Path, data: Path, tmp_path: Path
) -> None:
    """A build takes them from the list of categories; after an addition they are still there."""
    store = Store(tmp_path / "linked")
    build(store, embedder, open_data(gldv2))
    (gldv2 / "train_label_to_category.csv").unlink()
    add(store, choice, open_data(data))
    with closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        catalog = gallery.catalog
        links = {catalog.landmark_id(n): catalog.link(n) for n in range(catalog.landmark_count)}
    assert links.pop("9") == "http://commons.wikimedia.org/wiki/Category:Hawa_Mahal"
    assert len(links) == 7
    assert set(links.values()) == {None}
