"""One writer, whole builds, and a pointer that is always true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from embedder.errors import (
    ArtifactDamagedError,
    ArtifactMismatchError,
    ArtifactMissingError,
    NoGalleryError,
    StoreBusyError,
)
from index.gallery.store import Store
from tests.conftest import ROOT


def put(store: Store, text: str) -> str:
    """Publish a build of one file."""
    build_id = store.new_build_id()
    with store.writing(), store.staging(build_id) as staged:
        (staged / "file").write_text(text)
        store.publish(build_id)
    return build_id


def test_the_last_published_build_is_current(tmp_path: Path) -> None:
    """Each publication becomes current; earlier builds stay."""
    store = Store(tmp_path / "new" / "store")
    first, second = put(store, "1"), put(store, "2")
    assert store.current() == second
    assert (store.directory() / "file").read_text() == "2"
    assert (store.directory(first) / "file").read_text() == "1"


def test_a_build_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    """What was staged and not published is gone, and what was published stays."""
    store = Store(tmp_path)
    published = put(store, "1")
    with store.writing(), pytest.raises(FileNotFoundError), store.staging("half") as staged:
        (staged / "file" / "below").write_text("half")
    assert store.current() == published
    assert [path.name for path in (tmp_path / "builds").iterdir()] == [published]


def test_the_next_writer_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    """Staging folders and pointers of the dead are deleted; builds are not."""
    store = Store(tmp_path)
    published = put(store, "1")
    (tmp_path / "builds" / ".new-dead").mkdir()
    (tmp_path / ".CURRENT.dead").touch()
    with store.writing():
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "CURRENT",
            "LOCK",
            "builds",
            "work",
        ]
        assert [path.name for path in (tmp_path / "builds").iterdir()] == [published]


def test_a_second_writer_is_told(tmp_path: Path) -> None:
    """While one writes, another is refused; afterwards it may."""
    store = Store(tmp_path)
    with store.writing():
        with pytest.raises(StoreBusyError, match="being written"), Store(tmp_path).writing():
            pass
        code = "from index.gallery.store import *"
        script = f"{code}; Store(Path({str(tmp_path)!r})).writing().__enter__()"
        other = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert "StoreBusyError" in other.stderr
    with store.writing():
        pass


def test_build_ids_differ_within_a_second(tmp_path: Path) -> None:
    """Two builds of the same second get two names."""
    store = Store(tmp_path)
    assert put(store, "1") != put(store, "2")


@pytest.mark.parametrize("name", ["old-backup", "backup", "zzz-0000", "2026-13-45T99-00-00Z-0000"])
def test_other_folders_are_none_of_the_stores(tmp_path: Path, name: str) -> None:
    """A copy that somebody has put there neither counts nor names the next build."""
    store = Store(tmp_path)
    first = put(store, "1")
    (tmp_path / "builds" / name).mkdir()
    assert put(store, "2") > first
    assert len(store.build_ids()) == 2
    assert (tmp_path / "builds" / name).is_dir()


def test_a_clock_that_was_set_back_counts_on(tmp_path: Path) -> None:
    """Thirty years are not counted second by second."""
    store = Store(tmp_path)
    (tmp_path / "builds/2056-12-31T23-59-59Z-abcd").mkdir(parents=True)
    assert store.new_build_id().startswith("2057-01-01T00-00-00Z-")


@pytest.mark.parametrize("text", ["", "../elsewhere", "/etc", "a\nb", ".new-x"])
def test_a_current_file_that_names_no_build_is_refused(tmp_path: Path, text: str) -> None:
    """The pointer is not followed out of the store."""
    (tmp_path / "CURRENT").write_text(text)
    with pytest.raises(ArtifactDamagedError, match="CURRENT"):
        Store(tmp_path).directory()


def test_a_current_file_of_a_newer_version_is_refused_by_its_number(tmp_path: Path) -> None:
    """A build id alone is version 1."""
    (tmp_path / "CURRENT").write_text("2 2026-11-21T05-12-00Z-3f9c and more\n")
    with pytest.raises(ArtifactMismatchError, match="CURRENT: expected 1, found 2"):
        Store(tmp_path).directory()


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    """Nothing published, a build that is gone, a name that is none."""
    store = Store(tmp_path)
    assert store.current() is None
    with pytest.raises(NoGalleryError):
        store.directory()
    put(store, "1")
    for name in ("absent", "../builds", ".."):
        with pytest.raises(ArtifactMissingError):
            store.directory(name)


def test_an_unpublished_build_is_complete_and_not_current(tmp_path: Path) -> None:
    """It can be read by its id; once it was published, it never counts as unpublished again."""
    store = Store(tmp_path)
    first = put(store, "1")
    with store.writing():
        second = store.new_build_id()
        with store.staging(second) as staged:
            (staged / "file").write_text("2")
            store.publish(second, no_publish=True)
    assert store.current() == first
    assert (store.directory(second) / "file").read_text() == "2"
    assert [store.was_published(build) for build in (first, second)] == [True, False]
    store.point_to(second)
    store.point_to(first)
    assert store.was_published(second)


def test_a_publisher_that_was_killed_has_published(tmp_path: Path) -> None:
    """Between the two writes of a publication; the next writer ends it."""
    store = Store(tmp_path)
    first = put(store, "1")
    mark = store.directory(first) / "UNPUBLISHED"
    mark.touch()
    assert store.was_published(first)
    with store.writing():
        assert not mark.exists()
