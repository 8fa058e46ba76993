"""Pictures and landmarks removed from a published gallery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedder.artifacts.arrays import read_npz, write_npz
from embedder.errors import (
    ArtifactDamagedError,
    CatalogError,
    GalleryError,
)
from index.building.embedder_choice import EmbedderChoice
from index.building.rebuild import rebuild
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.store import Store
from index.gallery.tombstones import TOMBSTONES, read_tombstones
from index.maintenance.add import add
from index.maintenance.remove import remove
from photographs import open_data
from tests.factories import photographs, view_bytes


def ids(store: Store) -> list[str]:
    """Return the picture ids of the published gallery that were not removed."""
    gallery = Gallery.open(store.path, embedder_digest=None)
    found = gallery.catalog.column("picture_id").to_pylist()
    gone = set[int]()
    if (gallery.directory / TOMBSTONES).exists():
        gone = set(np.load(gallery.directory / TOMBSTONES)["rows"].tolist())
    return [name for row, name in enumerate(found) if row not in gone]


def test_removed_pictures_stay_out_of_every_rebuild(
    store: Store, choice: EmbedderChoice, data: Path
) -> None:
    """First they are marked, then they are gone, although the folder still holds them."""
    first = remove(store, pictures=["landmark-0/picture-0-1"], landmarks=["landmark-3"])
    assert (first.rows, first.removed) == (30, 7)
    builds = [store.directory(name) / VECTORS for name in store.build_ids()]
    assert builds[0].samefile(builds[1])
    rows = np.load(store.directory() / TOMBSTONES)["rows"]
    assert rows.dtype == np.int64
    assert rows.tolist() == [1, *range(18, 24)]
    left = ids(store)
    assert len(left) == 23
    assert remove(store, landmarks=["landmark-3"]).build_id == first.build_id
    second = rebuild(store, choice)
    assert (second.rows, second.removed, second.landmarks) == (23, 0, 4)
    assert ids(store) == left
    (data / "landmark-3/one-more.jpg").write_bytes(view_bytes(3, 60))
    third = rebuild(store, choice)
    assert (third.rows, third.list.pictures) == (23, 31)


def test_what_is_not_there_cannot_be_removed(store: Store) -> None:
    """A misspelt id is named, and removing everything is refused."""
    before = store.current()
    with pytest.raises(CatalogError, match="no picture of the id nobody"):
        remove(store, pictures=["nobody"])
    with pytest.raises(CatalogError, match="no landmark of the id nowhere"):
        remove(store, landmarks=["nowhere"])
    with pytest.raises(GalleryError, match="nothing would be left"):
        remove(store, landmarks=[f"landmark-{number}" for number in range(5)])
    assert store.current() == before


@pytest.fixture
def better(tmp_path: Path) -> Path:
    """Write two other pictures of a landmark of the gallery, one of them under a known name."""
    folder = tmp_path / "better" / "landmark-3"
    folder.mkdir(parents=True)
    (folder / "picture-3-0.jpg").write_bytes(view_bytes(3, 70))
    (folder / "new.jpg").write_bytes(view_bytes(3, 71))
    return folder.parent


@pytest.mark.parametrize("between", [True, False], ids=["rebuilt", "at once"])
@pytest.mark.parametrize(
    "removed",
    [
        {"landmarks": ["landmark-3"]},
        {"pictures": [f"landmark-3/picture-3-{view}" for view in range(6)]},
    ],
    ids=["landmark", "pictures"],
)
def test_better_pictures_do_not_bring_back_what_was_removed(
    store: Store,
    choice: EmbedderChoice,
    better: Path,
    removed: dict[str, list[str]],
    between: bool,  # noqa: FBT001 (parametrized)
) -> None:
    """Of the landmark the gallery then has those alone, whether or not it was rebuilt before."""
    remove(store, **removed)
    if between:
        rebuild(store, choice)
    manifest = add(store, choice, open_data(better))
    assert (manifest.rows - manifest.removed, manifest.landmarks) == (26, 5)
    assert {"landmark-3/new", "landmark-3/picture-3-0"} < set(ids(store))
    left = ids(store)
    rebuild(store, choice)
    assert ids(store) == left
    remove(store, landmarks=["landmark-3"])
    rebuild(store, choice)
    assert len(ids(store)) == 24


def test_tombstones_of_before_concern_all_sources(
    store: Store, choice: EmbedderChoice, tmp_path: Path
) -> None:
    """Their file names no sources."""
    add(store, choice, open_data(photographs(tmp_path / "more", landmarks=2, views=7)))
    manifest = remove(store, landmarks=["landmark-0"], pictures=["landmark-1/picture-1-6"])
    arrays = read_npz(store.directory() / TOMBSTONES)
    old = {name: arrays[name] for name in ("rows", "pictures", "landmarks")}
    write_npz(tmp_path / TOMBSTONES, **old)
    tombstones = read_tombstones(tmp_path, manifest)
    assert tombstones.landmarks == {"landmark-0": {0, 1}}
    assert tombstones.pictures == {"landmark-1/picture-1-6": {0, 1}}
    write_npz(tmp_path / TOMBSTONES, **old, landmark_sources=np.ones((2, 2), np.bool_))
    with pytest.raises(ArtifactDamagedError, match="do not fit its ids"):
        read_tombstones(tmp_path, manifest)
