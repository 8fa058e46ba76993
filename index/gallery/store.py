"""A store of galleries: many builds, one of them published, one writer at a time.

::

    STORE/
      CURRENT              the id of the published build
      LOCK                 locked by the writer; the system unlocks it when the process ends
      builds/<build id>/   a complete gallery: it is renamed to this when it is
      builds/<build id>/UNPUBLISHED   it was never the published build
      builds/.new-*/       one being written; the next writer deletes what a killed one left
      builds/.old-*/       one being deleted; likewise
      vectors.sqlite       vectors of queries and distractors, which commands do not embed again
      work/unfinished/     vectors of an unfinished build; deleted when it is published
      work/.old-*/         the same, being deleted

A ``CURRENT`` of a build id alone has version 1, so that any release follows it; a later version
begins with its number. The store knows nothing of what is in a gallery.
"""

import contextlib
import fcntl
import re
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from embedder.artifacts.documents import check_version
from embedder.artifacts.files import sync_directory, sync_tree, write_atomic
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactError,
    ArtifactMissingError,
    GalleryError,
    NoGalleryError,
    StoreBusyError,
)

_BUILD_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]*")
_STAMP = "%Y-%m-%dT%H-%M-%SZ"
_NEW, _OLD = ".new-", ".old-"
_UNPUBLISHED = "UNPUBLISHED"
_NEVER = datetime.min.replace(tzinfo=UTC)


class Store:
    """A directory of galleries, made by the first writer if it does not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = path / "work"
        self.unfinished = self.work / "unfinished"
        self._builds = path / "builds"
        self._current = path / "CURRENT"

    def current(self) -> str | None:
        """Return the id of the published build, or ``None`` where nothing is published.

        Raises:
            ArtifactDamagedError: ``CURRENT`` does not hold a build id.
            ArtifactMismatchError: It has a newer version; the number is named.
        """
        try:
            build_id = self._current.read_text(encoding="utf-8").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnicodeDecodeError as error:
            raise ArtifactDamagedError(self._current, "it does not name a build") from error
        if newer := re.fullmatch(r"(\d+) .+", build_id):
            check_version(self._current, newer[1], newest=1)
        if not _BUILD_ID.fullmatch(build_id):
            raise ArtifactDamagedError(self._current, "it does not name a build")
        return build_id

    def directory(self, build_id: str | None = None) -> Path:
        """Return the directory of a build, by default the published one.

        Raises:
            NoGalleryError: Nothing is published.
            ArtifactMissingError: There is no such build.
            ArtifactDamagedError: ``CURRENT`` does not hold a build id.
        """
        build_id = build_id or self.current()
        if build_id is None:
            raise NoGalleryError(self.path)
        directory = self._builds / build_id
        if not (_BUILD_ID.fullmatch(build_id) and directory.is_dir()):
            raise ArtifactMissingError(directory)
        return directory

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one writer, and delete what a killed one left half written.

        Raises:
            StoreBusyError: Another process is writing.
            GalleryError: A file cannot be read or written, as on a full disk.
        """
        try:
            self._builds.mkdir(parents=True, exist_ok=True)
            self.work.mkdir(exist_ok=True)
            with (self.path / "LOCK").open("a") as lock:
                self._lock(lock)
                yield
        except OSError as error:
            raise GalleryError(
                f"{error.filename or self.path}: {error.strerror or error}; what was published is "
                "unchanged, and the same command resumes once this is fixed"
            ) from error

    def _lock(self, lock: TextIO) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreBusyError(self.path) from error
        left = (*self._builds.glob(f"{_NEW}*"), *self._builds.glob(f"{_OLD}*"))
        for directory in (*left, *self.work.glob(f"{_OLD}*")):
            shutil.rmtree(directory)
        for pointer in self.path.glob(f".{self._current.name}.*"):
            pointer.unlink()
        with contextlib.suppress(ArtifactError):
            if current := self.current():  # its publisher may have been killed
                self._unmark(current)

    def new_build_id(self) -> str:
        """Return an id that sorts after all builds: the time and a random ending.

        Where the newest build has this second already, or one to come since the clock was set
        back, the time is the second after it.
        """
        now = datetime.now(UTC)
        if ids := self.build_ids():
            now = max(now, _time_of(ids[-1]) + timedelta(seconds=1))
        return f"{now.strftime(_STAMP)}-{secrets.token_hex(2)}"

    def build_ids(self) -> list[str]:
        """Return the ids of all builds, oldest first; other folders are none of the store's."""
        if not self._builds.is_dir():
            return []
        found = (path.name for path in self._builds.iterdir() if path.is_dir())
        return sorted(name for name in found if _time_of(name) > _NEVER)

    @contextlib.contextmanager
    def staging(self, build_id: str) -> Iterator[Path]:
        """Yield a directory for the build, invisible to readers until :meth:`publish`.

        If it was not published, it is deleted at the end.
        """
        staged = self._builds / f"{_NEW}{build_id}"
        staged.mkdir()
        try:
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def publish(self, build_id: str, *, no_publish: bool = False) -> Path:
        """Make the staged build the published one, atomically and durably.

        Every byte is on disk before the build gets its name, and the build has its name
        before ``CURRENT`` names it: after a crash the old or the new gallery is published,
        complete.

        Args:
            build_id: The build.
            no_publish: Only give it its name; ``CURRENT`` stays, and :meth:`point_to` may name
                the build later.
        """
        staged, directory = self._builds / f"{_NEW}{build_id}", self._builds / build_id
        if no_publish:
            (staged / _UNPUBLISHED).touch()
        sync_tree(staged)
        staged.rename(directory)
        sync_directory(self._builds)
        if not no_publish:
            self.point_to(build_id)
        return directory

    def point_to(self, build_id: str) -> None:
        """Make an existing build the published one, atomically and durably."""
        write_atomic(self._current, f"{build_id}\n".encode())
        self._unmark(build_id)

    def was_published(self, build_id: str) -> bool:
        """Tell whether a build is, or ever was, the published one."""
        return build_id == self.current() or not (self._builds / build_id / _UNPUBLISHED).exists()

    def _unmark(self, build_id: str) -> None:
        (self._builds / build_id / _UNPUBLISHED).unlink(missing_ok=True)

    def delete(self, build_id: str) -> None:
        """Delete a build; processes that have it open keep what they mapped.

        It is renamed first, so that a half-deleted build is never taken for a build.
        """
        _delete(self._builds / build_id)

    def discard(self, work: Path) -> None:
        """Delete a folder of ``work/``, as :meth:`delete` does a build, if it is there."""
        if work.is_dir():
            _delete(work)


def _time_of(build_id: str) -> datetime:
    """Return when a build was begun, by its id; :data:`_NEVER` where that is none."""
    try:
        return datetime.strptime(build_id.rpartition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return _NEVER


def _delete(directory: Path) -> None:
    doomed = directory.with_name(f"{_OLD}{directory.name}")
    directory.rename(doomed)
    shutil.rmtree(doomed)
