"""``cairn-index build`` killed without warning, at every stage of its work."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedder.artifacts.files import check_files
from embedder.errors import StoreBusyError
from index.building.vector_cache import CACHE
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store
from tests.conftest import ROOT
from tests.factories import photographs, tiny_embedder, view_bytes

PICTURES = 976


@dataclass(frozen=True, slots=True)
class Work:
    """What is built: photographs, an embedder, and the gallery that nobody disturbed."""

    photographs: Path
    embedder: Path
    undisturbed: GalleryManifest

    def command(self, store: Path) -> list[str]:
        """Word the command that builds it in ``store``."""
        places = {"--store": store, "--embedder": self.embedder, "--data": self.photographs}
        flags = [word for name, path in places.items() for word in (name, str(path))]
        return [sys.executable, "-m", "index", "build", *flags, "--threads", "1"]

    def build(self, store: Path) -> GalleryManifest:
        """Build it in ``store`` and let it finish."""
        ended = subprocess.run(
            self.command(store), capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert ended.returncode == 0, ended.stderr
        return published(store)

    def build_and_kill(self, store: Path, moment: Callable[[], bool]) -> bool:
        """Build it in ``store``, kill it at ``moment``, and tell whether that was in time."""
        with subprocess.Popen(
            self.command(store), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
        ) as process:
            while process.poll() is None and not moment():
                time.sleep(0.0005)
            process.kill()
            return process.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Draw pictures, two of them unreadable."""
    root = tmp_path_factory.mktemp("work")
    data = photographs(root / "photographs", landmarks=10, views=PICTURES // 10)
    (data / "landmark-0" / "empty.jpg").write_bytes(b"")
    (data / "landmark-9" / "text.jpg").write_bytes(b"this is text")
    embedder = tiny_embedder(root / "embedder")
    draft = Work(data, embedder, undisturbed=None)  # type: ignore[arg-type]  # made next
    return Work(data, embedder, draft.build(root / "store"))


def published(store: Path) -> GalleryManifest:
    """Open what is published, every byte of it checked."""
    gallery = Gallery.open(store, embedder_digest=None)
    check_files(gallery.directory, gallery.manifest.files, deep=True)
    gallery.close()
    return gallery.manifest


def content(manifest: GalleryManifest) -> dict[str, object]:
    """Return what a manifest says, digests of all files included, but for its name and time."""
    return manifest.model_dump(exclude={"build_id", "created"})


def embedded_rows(store: Path) -> int:
    """Count the pictures in the cache of an unfinished build, which another process may write."""
    path = store / "work" / "unfinished" / CACHE
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            (rows,) = connection.execute("SELECT count(*) FROM pictures").fetchone()
    except sqlite3.Error:
        return 0  # it is not there yet, or being made
    return int(rows)


def moments(store: Path) -> dict[str, Callable[[], bool]]:
    """Name moments of a build by what is then in the store."""

    def count(pattern: str) -> int:
        return sum(1 for _ in store.glob(pattern))

    return {
        "started": (store / "LOCK").exists,
        "first batch": lambda: embedded_rows(store) >= 1,
        "half of it": lambda: embedded_rows(store) >= PICTURES // 2,
        "writing": lambda: count("builds/.new-*") > 0,
        "vectors written": lambda: count("builds/.new-*/vectors.faiss") > 0,
        "described": lambda: count("builds/.new-*/manifest.json") > 0,
        "named": lambda: count("builds/2*") > 0,
        "published": (store / "CURRENT").exists,
    }


def kill_in_time(work: Work, root: Path, moment: str) -> Path:
    """Kill a build at a named moment and return its store; try again where it was too quick."""
    for attempt in range(10):
        store = root / f"store-{attempt}"
        if work.build_and_kill(store, moments(store)[moment]):
            return store
    pytest.fail(f"no build could be killed when it was {moment}")


@pytest.mark.parametrize("moment", list(moments(Path())))
def test_a_killed_first_build_is_finished_by_the_next(
    work: Work, tmp_path: Path, moment: str
) -> None:
    """Whatever it was doing, the store is empty or whole, and the next build makes the same."""
    store = kill_in_time(work, tmp_path, moment)
    if Store(store).current() is not None:
        assert content(published(store)) == content(work.undisturbed)
    assert content(work.build(store)) == content(work.undisturbed)
    assert not list((store / "work").iterdir())
    assert not list((store / "builds").glob(".new-*"))


@pytest.mark.slow
def test_a_killed_build_leaves_the_published_gallery_alone(work: Work, tmp_path: Path) -> None:
    """Killed again and again at random, each time the old gallery or the new one is whole."""
    store, chance = tmp_path / "store", random.Random(0)  # noqa: S311 (moments, not secrets)
    other = tiny_embedder(tmp_path / "other", seed=1)
    old = Work(work.photographs, other, work.undisturbed).build(store)
    assert old.embedder.digest != work.undisturbed.embedder.digest
    begun = time.monotonic()
    work.build(tmp_path / "timed")
    whole_seconds = time.monotonic() - begun
    killed = 0
    for _ in range(8):
        end = time.monotonic() + whole_seconds * chance.uniform(0.3, 1.0)
        killed += work.build_and_kill(store, lambda end=end: time.monotonic() >= end)
        assert content(published(store)) in (content(old), content(work.undisturbed))
    assert killed > 0
    assert content(work.build(store)) == content(work.undisturbed)


def resume(work: Work, store: Path) -> dict[str, Any]:
    """Run the command again and return what it says."""
    ended = subprocess.run(
        work.command(store), capture_output=True, text=True, check=True, cwd=ROOT
    )
    said: dict[str, Any] = json.loads(ended.stdout)
    return said


def test_a_killed_build_does_not_begin_again(work: Work, tmp_path: Path) -> None:
    """What was embedded is used, not embedded a second time; but for two that cannot be read."""
    store = kill_in_time(work, tmp_path, "half of it")
    rows = embedded_rows(store)
    assert rows >= PICTURES // 2
    said = resume(work, store)
    total = work.undisturbed.list.pictures
    assert said["known"] in (rows, rows - 1)
    assert said["embedded"] + said["known"] == said["rows"] == total - 2
    assert said["rows"] == work.undisturbed.rows


def test_a_list_that_has_grown_embeds_what_is_new(work: Work, tmp_path: Path) -> None:
    """One more picture in the list of a killed build is one picture more to embed."""
    data = tmp_path / "photographs"
    shutil.copytree(work.photographs, data)
    own = Work(data, work.embedder, work.undisturbed)
    store = kill_in_time(own, tmp_path, "writing")
    (data / "landmark-0" / "a-new-one.jpg").write_bytes(view_bytes(0, 5000))
    said = resume(own, store)
    assert (said["embedded"], said["known"]) == (1, work.undisturbed.rows)
    assert content(published(store))["files"] == content(own.build(tmp_path / "anew"))["files"]


def test_two_builds_at_once_are_one_build_and_one_refusal(work: Work, tmp_path: Path) -> None:
    """The second process says that the first is writing, and the first is not disturbed."""
    store = tmp_path / "store"
    with subprocess.Popen(
        work.command(store), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    ) as first:
        while not moments(store)["first batch"]():
            assert first.poll() is None
            time.sleep(0.0005)
        with pytest.raises(StoreBusyError, match="being written"), Store(store).writing():
            pass
        first.communicate()
        assert first.returncode == 0
    assert content(published(store)) == content(work.undisturbed)


def test_an_interrupted_build_says_how_to_go_on(work: Work, tmp_path: Path) -> None:
    """Ctrl-C ends with its usual code and one sentence, not a traceback."""
    store = tmp_path / "store"
    with subprocess.Popen(
        work.command(store), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        while not moments(store)["first batch"]():
            assert process.poll() is None
            time.sleep(0.0005)
        process.send_signal(signal.SIGINT)
        written, errors = process.communicate()
    assert process.returncode == 130
    assert written == ""
    assert errors.splitlines()[-1] == (
        "cairn-index: interrupted; the same command goes on from here"
    )
    assert "Traceback" not in errors
