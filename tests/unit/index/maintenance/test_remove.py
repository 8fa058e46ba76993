"""Pictures and landmarks removed from a published gallery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedder.errors import (
    CatalogError,
    GalleryError,
)
from index.building.embedder_choice import EmbedderChoice
from index.building.rebuild import rebuild
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.store import Store
from index.gallery.tombstones import TOMBSTONES
from index.maintenance.remove import remove
from tests.factories import view_bytes


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
