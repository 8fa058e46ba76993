"""Builds are listed, rolled back to, deleted and verified."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from embedder.embedder import Embedder
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactMissingError,
    GalleryError,
    NoGalleryError,
    StoreBusyError,
)
from index.building.build import build
from index.building.recipe import BuildRecipe
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.manifest import MANIFEST, read_manifest, write_manifest
from index.gallery.store import Store
from index.maintenance.history import StoredBuild, clean, list_builds, roll_back
from index.maintenance.remove import remove
from index.maintenance.verify import verify
from photographs import open_data
from tests.factories import photographs, view_bytes


@pytest.fixture
def store(tmp_path: Path, embedder: Embedder) -> Store:
    """Publish three builds: of two landmarks, of three, and one without the first picture."""
    store, data = Store(tmp_path / "store"), tmp_path / "data"
    for landmarks in (2, 3):
        build(store, embedder, open_data(photographs(data, landmarks=landmarks, views=4)))
    remove(store, pictures=["landmark-0/picture-0-0"])
    return store


def damage(path: Path) -> None:
    """Flip the last bit of a file."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()  # it may be shared with another build
    path.write_bytes(data)


def test_builds_are_listed_oldest_first(store: Store) -> None:
    """With what a person chooses by, and a damaged one with its fault."""
    builds = list_builds(store)
    summaries = [build.summary() for build in builds]
    facts = [(s["rows"], s["removed"], s["landmarks"]) for s in summaries]
    assert facts == [(8, 0, 2), (12, 0, 3), (12, 1, 3)]
    assert list(summaries[0]) == [
        "build_id", "current", "published", "created", "kind", "rows", "removed", "landmarks",
        "embedder", "fault",
    ]  # fmt: skip
    assert [b.current for b in builds] == [False, False, True]
    (store.directory(builds[0].build_id) / MANIFEST).write_text("{")
    first = list_builds(store)[0]
    assert first == StoredBuild(builds[0].build_id, current=False, fault=first.fault)
    assert "damaged" in first.fault
    assert (first.summary()["rows"], first.summary()["fault"]) == (None, first.fault)
    assert list_builds(Store(store.path / "absent")) == []


def test_rollback_goes_one_build_at_a_time(store: Store) -> None:
    """To the newest that is older, until there is none; and forward again by name."""
    names = store.build_ids()
    assert roll_back(store).build_id == names[1] == store.current()
    assert roll_back(store).build_id == names[0]
    with pytest.raises(GalleryError, match="no build older"):
        roll_back(store)
    assert roll_back(store, names[2]).build_id == names[2] == store.current()
    with pytest.raises(ArtifactMissingError):
        roll_back(store, "never")


def test_a_damaged_build_is_not_rolled_back_to(store: Store) -> None:
    """Every byte is read first, and the published build stays."""
    names = store.build_ids()
    damage(store.directory(names[1]) / VECTORS)
    with pytest.raises(ArtifactDamagedError):
        roll_back(store)
    assert store.current() == names[2]


def test_old_builds_are_deleted_but_never_the_published_one(store: Store) -> None:
    """The newest stay, and the published one wherever it stands."""
    names = store.build_ids()
    roll_back(store, names[0])
    cleaned = clean(store, keep=1)
    assert (cleaned.builds, cleaned.kept) == ([names[1]], [names[0], names[2]])
    assert store.build_ids() == cleaned.kept
    Gallery.open(store.path, embedder_digest=None).close()
    assert clean(store, keep=1).builds == []


def test_abandoned_work_is_deleted_and_recent_work_is_not(store: Store) -> None:
    """By the time of the last file written; what was half deleted goes anyway."""
    for name, age in (("old", 3 * 3600), ("new", 3600)):
        (store.work / name).mkdir()
        (store.work / name / "0.arrow").touch()
        os.utime(store.work / name / "0.arrow", times=(0, time.time() - age))
    (store.path / "builds" / ".old-dead").mkdir()
    assert clean(store, idle_hours=2).unfinished == ["old"]
    assert [path.name for path in store.work.iterdir()] == ["new"]
    assert not list((store.path / "builds").glob(".old-*"))


def test_every_change_is_made_by_one_writer(store: Store) -> None:
    """A second one is refused."""
    with store.writing():
        for change in (roll_back, clean, lambda s: remove(s, landmarks=["landmark-0"])):
            with pytest.raises(StoreBusyError):
                change(Store(store.path))


def test_build_ids_ascend_within_a_second(store: Store) -> None:
    """The order of names is that of publication, however fast they come."""
    names = store.build_ids()
    assert names == sorted(names)
    assert store.new_build_id() > names[-1]


def test_a_whole_build_is_verified(store: Store, embedder: Embedder) -> None:
    """Files, rows, and a sample embedded again; removed rows are not looked at."""
    verified = verify(store, embedder, sample=5)
    assert (verified.rows, verified.removed, verified.files) == (12, 1, 5)
    assert (verified.sample, verified.changed) == (5, 0)
    assert verified.worst_cosine is not None
    assert verified.worst_cosine > 0.999
    everything = verify(store, embedder, sample=100)
    assert everything.sample == 11
    assert verify(store).worst_cosine is None
    assert verify(store, build_id=store.build_ids()[0]).rows == 8


def test_changed_pictures_are_counted_not_refused(
    store: Store, embedder: Embedder, tmp_path: Path
) -> None:
    """They are a rebuild's business."""
    (tmp_path / "data/landmark-0/picture-0-1.jpg").write_bytes(view_bytes(0, 50))
    (tmp_path / "data/landmark-0/picture-0-2.jpg").unlink()
    verified = verify(store, embedder)
    assert (verified.sample, verified.changed) == (9, 2)


@pytest.mark.parametrize(
    "name", ["vectors.faiss", "catalog.arrow", "landmarks.arrow", "unreadable.csv", "removed.npz"]
)
def test_every_file_is_read(store: Store, name: str) -> None:
    """A flipped bit anywhere is found, and the file named."""
    damage(store.directory() / name)
    with pytest.raises(ArtifactDamagedError, match=name):
        verify(store)


def test_vectors_of_other_pictures_are_found(
    store: Store, embedder: Embedder, tmp_path: Path
) -> None:
    """Digests that agree are not enough: the sample is compared with the pictures themselves."""
    swapped, data = store.directory(), tmp_path / "data"
    others = photographs(tmp_path / "others", landmarks=3, views=4)
    for old, new in ((1, 2), (2, 1)):
        for view in range(4):
            picture = data / f"landmark-{new}/picture-{new}-{view}.jpg"
            place = others / f"landmark-{old}/picture-{old}-{view}.jpg"
            place.write_bytes(picture.read_bytes())
    other = Store(tmp_path / "other")
    made = build(other, embedder, open_data(others))
    (swapped / VECTORS).unlink()
    (swapped / VECTORS).write_bytes((other.directory() / VECTORS).read_bytes())
    manifest = read_manifest(swapped)
    files = {**manifest.files, VECTORS: made.files[VECTORS]}
    write_manifest(swapped, manifest.model_copy(update={"files": files}))
    with pytest.raises(ArtifactDamagedError, match=r"the vector of landmark-.* has a cosine of"):
        verify(store, embedder)


def test_an_empty_store_cannot_be_verified_or_rolled_back(tmp_path: Path) -> None:
    """There is nothing published."""
    for ask in (verify, roll_back):
        with pytest.raises(NoGalleryError):
            ask(Store(tmp_path / "empty"))


def test_a_build_that_was_never_published_is_not_gone_back_to(
    store: Store, embedder: Embedder, tmp_path: Path
) -> None:
    """It may have been refused; the list tells it from the others, and gc deletes it in time."""
    published = [build.build_id for build in list_builds(store)]
    data = open_data(tmp_path / "data")
    unpublished = build(store, embedder, data, BuildRecipe(no_publish=True)).build_id
    assert store.current() == published[-1]
    latest = build(store, embedder, data).build_id
    assert [b.published for b in list_builds(store)] == [True, True, True, False, True]
    assert roll_back(store).build_id == published[-1]
    assert roll_back(store, unpublished).build_id == unpublished == store.current()
    assert store.was_published(unpublished)
    assert clean(store, keep=1).kept == [unpublished, latest]
