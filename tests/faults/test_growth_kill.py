"""Every command that makes a gallery grow or shrink, killed at every fifth write."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from embedder.artifacts.files import RecordedFile
from index.building.compact import compact
from index.building.publish import check_every_byte
from index.building.rebuild import rebuild
from index.building.recipe import BuildRecipe
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.maintenance.add import add
from index.maintenance.remove import remove
from index.review.publish import publish
from index.search.faiss_search import limit_threads
from photographs import open_data
from tests.growing import CHOICE, FOLDERS, World, segments_of_any_size

EVERY = 5
"""Writes from one kill to the next; half of the kills have another between them."""
CHANGES = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "sqlite3.connect"}


def content(store: Store) -> dict[str, object]:
    """Check every byte of what is published, and return what it says but for name and time."""
    with closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        check_every_byte(gallery)
        return gallery.manifest.model_dump(exclude={"build_id", "created"})


def kill_at(number: int, act: Callable[[Store], object], store: Store) -> int | None:
    """Run a command in a process that dies at its ``number``-th write.

    Returns:
        ``None`` if it was killed, or how many writes it made.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            if done == number:
                os.kill(os.getpid(), signal.SIGKILL)

        def watch(event: str, words: tuple[object, ...]) -> None:
            flags = words[2] if event == "open" else 0
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGES or writes:
                count()

        write = RecordedFile.write

        def counted(self: RecordedFile, data: bytes) -> int:
            count()
            return write(self, data)

        RecordedFile.write = counted  # type: ignore[assignment]  # of this process, which ends
        sys.addaudithook(watch)
        try:
            act(store)
            os.write(writing, str(done).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    assert said, "the command failed"
    return int(said)


@pytest.mark.timeout(1800)
def test_whenever_it_is_killed_the_gallery_is_whole_and_the_command_ends_as_ever(
    tmp_path: Path,
) -> None:
    """Add, publish, rebuild, remove, compact: at least a hundred kills in all."""
    limit_threads(1)  # a forked process has none of the others
    world = World(tmp_path / "world", 1, "exact")
    more = open_data(world.root / FOLDERS[1])
    with segments_of_any_size(segments=1):  # which compacts what it has added
        kills = _kill(world, lambda store: add(store, CHOICE, more))
    with segments_of_any_size():
        kills += _kill(world, lambda store: add(store, CHOICE, more))
        world.change_files(FOLDERS[1])
        later = add(world.store, CHOICE, more, BuildRecipe(no_publish=True)).build_id
        kills += _kill(world, lambda store: publish(store, later))
        world.change_files(FOLDERS[0])
        kills += _kill(world, lambda store: rebuild(store, CHOICE))
        add(world.store, CHOICE, more)
        picture = sorted(world.pictures())[0]
        kills += _kill(world, lambda store: remove(store, pictures=[picture]))
        kills += _kill(world, compact)
    assert kills >= 100


def test_a_killed_publication_leaves_the_old_or_the_new_gallery(tmp_path: Path) -> None:
    """Of a build that waited: killed at every write, then asked for again."""
    limit_threads(1)
    world, waiting = World(tmp_path / "world", 1, "exact"), BuildRecipe(no_publish=True)
    with segments_of_any_size():
        build_id = add(world.store, CHOICE, open_data(world.root / FOLDERS[1]), waiting).build_id
    assert world.store.current() != build_id
    assert _kill(world, lambda store: publish(store, build_id), every=1) >= 3
    ended = Store(world.root / "killed")
    assert ended.current() == build_id
    assert not list(ended.path.rglob("UNPUBLISHED"))


def _kill(world: World, act: Callable[[Store], object], *, every: int = EVERY) -> int:
    """Kill a command at every fifth write, each time in a copy of the store; count the kills."""

    def copy(name: str) -> Store:
        shutil.rmtree(world.root / name, ignore_errors=True)
        return Store(Path(shutil.copytree(world.store.path, world.root / name)))

    before, undisturbed = content(world.store), copy("undisturbed")
    writes = kill_at(0, act, undisturbed)
    after = content(undisturbed)
    assert writes
    assert before != after
    between = [before, after]
    for build_id in undisturbed.build_ids():  # what a compaction has published before it
        undisturbed.point_to(build_id)
        between.append(content(undisturbed))
    killed = 0
    for number in sorted({*range(1, writes + 1, every), *range(3, writes + 1, 2 * every)}):
        store = copy("killed")
        assert kill_at(number, act, store) is None
        killed += 1
        assert content(store) in between
        assert kill_at(0, act, store)
        assert content(store) == after
        assert not [path.name for path in (store.path / "builds").iterdir() if path.name[0] == "."]
    return killed
