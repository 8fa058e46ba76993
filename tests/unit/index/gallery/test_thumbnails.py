"""Galleries with small pictures: each row has its own, whatever became of the gallery."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from embedder.artifacts.files import record
from embedder.embedder import Embedder
from embedder.errors import ArtifactDamagedError, ArtifactMissingError
from embedder.thumbnail import make_thumbnail
from index.building.build import build
from index.building.embedder_choice import EmbedderChoice
from index.building.publish import same_content
from index.building.rebuild import rebuild
from index.building.recipe import BuildRecipe
from index.building.writer import GalleryWriter
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.gallery.thumbnails import THUMBNAILS, Thumbnails, ThumbnailWriter
from index.maintenance.add import add
from index.maintenance.remove import remove
from index.maintenance.verify import verify
from photographs import open_data
from tests.factories import photographs, tiny_embedder, view_bytes

SIDE = 24
RECIPE = BuildRecipe(thumbnail_side=SIDE)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Draw three landmarks, one folder each."""
    return photographs(tmp_path / "data", landmarks=3, views=4)


@pytest.fixture
def store(tmp_path: Path, data: Path, embedder: Embedder) -> Store:
    """Build them with thumbnails."""
    store = Store(tmp_path / "store")
    build(store, embedder, open_data(data), RECIPE)
    return store


def demand_own(store: Store, side: int = SIDE) -> int:
    """Compare each thumbnail with one made of its picture anew; return how many there are."""
    gallery = Gallery.open(store.path, embedder_digest=None)
    assert gallery.manifest.thumbnail_side == side
    for row in range(gallery.manifest.rows):
        held = gallery.catalog.row(row)
        path = Path(gallery.manifest.sources[held.source].data) / held.path
        thumbnail = gallery.thumbnail(held.picture_id)
        assert thumbnail == make_thumbnail(path.read_bytes(), side)
        assert max(Image.open(io.BytesIO(thumbnail)).size) == side
    return gallery.manifest.rows


def test_every_picture_has_its_own(store: Store) -> None:
    """No side is longer than asked for, and an id that is not held has none."""
    assert demand_own(store) == 12
    gallery = Gallery.open(store.path, embedder_digest=None)
    assert (
        len({gallery.thumbnail(name) for name in gallery.catalog.column("picture_id").to_pylist()})
        == 12
    )
    for name in (
        "",
        "landmark-0",
        "landmark-0/picture-0-00",
        "zzz",
        "../data/landmark-0",
        "\udcff",
    ):
        assert gallery.thumbnail(name) is None


def test_without_being_asked_for_there_are_none(
    embedder: Embedder, data: Path, tmp_path: Path
) -> None:
    """Such a gallery has no file of them."""
    store = Store(tmp_path / "plain")
    manifest = build(store, embedder, open_data(data))
    assert THUMBNAILS not in manifest.files
    gallery = Gallery.open(store.path, embedder_digest=None)
    assert gallery.thumbnail("landmark-0/picture-0-0") is None


def test_what_is_added_and_changed_gets_its_own(
    store: Store, choice: EmbedderChoice, embedder: Embedder, data: Path, tmp_path: Path
) -> None:
    """And unreadable pictures take no place; all is as built anew."""
    (data / "landmark-0/picture-0-0.jpg").write_bytes(view_bytes(0, 100))
    (data / "landmark-1/picture-1-1.jpg").write_bytes(b"")
    (data / "landmark-2/picture-2-1.jpg").unlink()
    rebuilt = rebuild(store, choice)
    assert demand_own(store) == 10
    anew = build(Store(tmp_path / "full"), embedder, open_data(data), RECIPE)
    assert same_content(rebuilt, anew)
    more = photographs(tmp_path / "more", landmarks=1, views=6)
    (more / "landmark-0").rename(more / "landmark-1a")
    add(store, choice, open_data(more), BuildRecipe(thumbnail_side=40))
    assert demand_own(store) == 16  # of one size, that of the gallery


def test_an_unchanged_gallery_shares_them(store: Store, choice: EmbedderChoice, data: Path) -> None:
    """Moving the folder writes a new build and no new thumbnails."""
    before = store.directory() / THUMBNAILS
    moved = data.rename(data.with_name("moved"))
    rebuild(store, choice, data=[moved])
    after = store.directory() / THUMBNAILS
    assert after != before
    assert after.samefile(before)
    assert rebuild(store, choice).build_id == store.current()


def test_a_removed_picture_is_not_shown(store: Store, choice: EmbedderChoice) -> None:
    """At once, although its row is still there; after a rebuild its bytes are gone too."""
    name = "landmark-1/picture-1-2"
    gallery = Gallery.open(store.path, embedder_digest=None)
    shown = gallery.thumbnail(name)
    assert shown is not None
    remove(store, pictures=[name])
    assert Gallery.open(store.path, embedder_digest=None).thumbnail(name) is None
    assert shown in (store.directory() / THUMBNAILS).read_bytes()
    rebuild(store, choice)
    assert demand_own(store) == 11
    assert shown not in (store.directory() / THUMBNAILS).read_bytes()


def test_another_size_reads_every_picture_and_embeds_none(
    store: Store,
    choice: EmbedderChoice,
    embedder: Embedder,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gallery may get its thumbnails later, in another size, or lose them."""
    anew = build(
        Store(tmp_path / "full"), embedder, open_data(data), BuildRecipe(thumbnail_side=40)
    )
    monkeypatch.setattr(Embedder, "embed", None)
    monkeypatch.setattr(Embedder, "golden_cosine", lambda *_: 1.0)
    assert THUMBNAILS not in rebuild(store, choice, BuildRecipe(thumbnail_side=0)).files
    assert same_content(rebuild(store, choice, BuildRecipe(thumbnail_side=40)), anew)
    assert demand_own(store, 40) == 12


def test_another_embedder_keeps_them(store: Store, tmp_path: Path) -> None:
    """Everything is embedded anew, and shown as before."""
    other = tiny_embedder(tmp_path / "other", seed=1)
    rebuild(store, EmbedderChoice(other, precision="f32", threads=1))
    assert demand_own(store) == 12


def test_a_build_that_was_killed_goes_on_with_those_it_has(
    embedder: Embedder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with those of another size; the files are those of an undisturbed build."""
    store, other = Store(tmp_path / "killed"), Store(tmp_path / "undisturbed")
    undisturbed = build(other, embedder, open_data(data), RECIPE)
    with monkeypatch.context() as patch:
        patch.setattr(GalleryWriter, "publish", lambda *_: 1 / 0)
        for recipe in (BuildRecipe(thumbnail_side=40), RECIPE):
            with pytest.raises(ZeroDivisionError):
                build(store, embedder, open_data(data), recipe)
    monkeypatch.setattr(Embedder, "embed", None)
    assert same_content(build(store, embedder, open_data(data), RECIPE), undisturbed)
    assert demand_own(store) == 12


def test_an_altered_thumbnail_is_found(store: Store) -> None:
    """Verifying reads them to the last byte, and names the file."""
    assert verify(store).files == 5
    path = store.directory() / THUMBNAILS
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ArtifactDamagedError, match=THUMBNAILS):
        verify(store)


def test_many_rows_are_found_and_none_beyond_them(tmp_path: Path) -> None:
    """Across the pieces of the file, the last of which is short; a row may have none."""
    rows = [None if row % 7 == 0 else f"{row}".encode() for row in range(2500)]
    with ThumbnailWriter(tmp_path) as writer:
        writer.add(iter(rows))
    assert writer.record() == record(tmp_path / THUMBNAILS)
    thumbnails = Thumbnails.open({tmp_path: 2500})
    assert [thumbnails[row] for row in range(2500)] == rows
    with pytest.raises(IndexError):
        thumbnails[2500]


@pytest.mark.parametrize("rows", [0, 1024, 2048])
def test_thumbnails_of_another_gallery_are_refused(tmp_path: Path, rows: int) -> None:
    """One row short would show every picture in the place of another."""
    with ThumbnailWriter(tmp_path) as writer:
        writer.add([b"x"] * rows)
    Thumbnails.open({tmp_path: rows})
    with pytest.raises(ArtifactDamagedError, match=f"{rows} thumbnails for {rows + 1} rows"):
        Thumbnails.open({tmp_path: rows + 1})


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    """Absent, cut short, or of other columns."""
    with pytest.raises(ArtifactMissingError, match=THUMBNAILS):
        Thumbnails.open({tmp_path: 1})
    path = tmp_path / THUMBNAILS
    path.write_bytes(b"ARROW1")
    with pytest.raises(ArtifactDamagedError, match=THUMBNAILS):
        Thumbnails.open({tmp_path: 1})
    with pa.ipc.new_file(str(path), pa.schema([("x", pa.int8())])):
        pass
    with pytest.raises(ArtifactDamagedError, match="columns"):
        Thumbnails.open({tmp_path: 0})
