"""Vectors that were computed before, in an SQLite database: what a killed build goes on from.

A row is a picture file as one embedder saw it: its place, size, time and digest, its vector, and
a thumbnail where one was made. A file that has kept its size and time is not read again; one that
was moved or copied is read, and known by its content. Rows have checksums. A damaged row is
computed anew, and a damaged database replaced; both are logged.

The database has no indexes: their keys, which are digests, would make every batch write pages all
over the file. What rows are found by is kept in memory, about 90 bytes a row, while it is open.

Readers and one writer work at once (SQLite's write-ahead log), on one machine. What a killed
process wrote stays; a crash of the machine may lose the last few megabytes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import sqlite3
import struct
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from index.building.embedded import EmbeddedBatch, ReadPicture
from index.gallery.manifest import EmbedderReference

CACHE = "vectors.sqlite"

_VERSION = 1
_PAGE_BYTES = 1 << 14  # seven vectors of 512 numbers; of 4 KiB, half a page would stay empty
_CHECKPOINT_PAGES = 256
_TIMEOUT_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS embedders (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS pictures (
    id INTEGER PRIMARY KEY, embedder INTEGER NOT NULL, file BLOB NOT NULL, sha256 BLOB NOT NULL,
    bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, fault TEXT NOT NULL, side INTEGER NOT NULL,
    checksum BLOB NOT NULL, vector BLOB NOT NULL, thumbnail BLOB);
"""
_LOOK_UP = """
CREATE TEMP TABLE by_file (file BLOB PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
CREATE TEMP TABLE by_content (sha256 BLOB PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = "id, file, sha256, bytes, mtime_ns, fault, side, checksum, vector, thumbnail"

_DESCRIBED = struct.Struct("<16s32sqqqqqq")

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """A row.

    Attributes:
        number: Its number.
        picture: The file.
        vector: ``(d,)``; empty where the picture cannot be used.
        thumbnail: A small JPEG, or ``None``.
    """

    number: int
    picture: ReadPicture
    vector: NDArray[np.float32]
    thumbnail: bytes | None


class VectorCache:
    """The pictures that one embedder has seen. Thread-safe.

    Args:
        path: The database; made if it does not exist, replaced if it is damaged.
        embedder: The embedder, and how it runs.
        dimension: Length of a vector.
        side: Longest side of thumbnails; 0 where none are made.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(
        self, path: Path, embedder: EmbedderReference, dimension: int, *, side: int = 0
    ) -> None:
        self.path = path
        self._name = _name(embedder)
        self._dimension, self._side = dimension, side
        self._lock = threading.RLock()
        self._translated = _Translated(path)
        with self._translated:
            self._connection = _open(path)
            self._embedder = self._number()
            self._connection.executescript(_LOOK_UP)
            self._list(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    def find(
        self, files: Sequence[Path | str], states: Sequence[Sequence[int]]
    ) -> Iterator[Found | None]:
        """Find files that have kept their size and time.

        Args:
            files: Thousands at most.
            states: Size and time of each, as they are now.

        Yields:
            The row of each; ``None`` where it has to be read, for a thumbnail of this size
            perhaps.
        """
        keys = [_key(file) for file in files]
        with self._lock, self._translated:
            self._list(self._listed + 1)
        where = f"id IN (SELECT id FROM by_file WHERE file IN ({_marks(keys)}))"  # noqa: S608 (question marks)
        rows = {row[1]: row for row in self._select(where, *keys)}
        for key, (size, mtime_ns) in zip(keys, states, strict=True):
            row = rows.get(key)
            same = row is not None and (row[3], row[4]) == (size, mtime_ns)
            shown = row is not None and self._side in (0, row[6])
            yield self._decode(row) if row is not None and same and shown else None

    def find_content(self, sha256: bytes) -> NDArray[np.float32] | None:
        """Return the vector of a file of this content that was usable, or ``None``."""
        where = "fault = '' AND id = (SELECT id FROM by_content WHERE sha256 = ?)"
        for row in self._select(where, sha256):
            if row[2] == sha256 and (found := self._decode(row)):
                return found.vector
        return None

    def write(self, files: Sequence[Path | str], batch: EmbeddedBatch) -> list[int]:
        """Write the pictures of a batch, in place of earlier rows of their files.

        Returns:
            The number of each row.
        """
        insert = f"INSERT INTO pictures VALUES (NULL, {_marks(range(10))})"  # noqa: S608 (question marks)
        rows = [
            self._encode(file, picture, vector, thumbnail)
            for file, picture, vector, thumbnail in zip(
                files, batch.pictures, batch.vectors, batch.thumbnails, strict=True
            )
        ]
        earlier = "DELETE FROM pictures WHERE id = (SELECT id FROM by_file WHERE file = ?)"
        with self._writing():
            numbers = [self._connection.execute(insert, row).lastrowid or 0 for row in rows]
            self._connection.executemany(earlier, ((row[1],) for row in rows))
            self._list(min(numbers, default=self._listed + 1))
        return numbers

    def read(self, numbers: Sequence[int]) -> EmbeddedBatch:
        """Return rows in the order asked for.

        Raises:
            OSError: One is damaged; the next command replaces it.
        """
        rows = {row[0]: row for row in self._select(f"id IN ({_marks(numbers)})", *numbers)}
        vectors = np.zeros((len(numbers), self._dimension), np.float32)
        pictures, thumbnails = [], []
        for place, number in enumerate(numbers):
            found = self._decode(rows[number]) if number in rows else None
            if found is None:
                raise OSError(errno.EIO, "a row has changed since it was written", str(self.path))
            if found.picture.usable:
                vectors[place] = found.vector
            pictures.append(found.picture)
            thumbnails.append(found.thumbnail)
        return EmbeddedBatch(pictures, vectors, thumbnails)

    def count(self) -> int:
        """Count the rows of all embedders."""
        with self._lock, self._translated:
            (count,) = self._connection.execute("SELECT count(*) FROM pictures").fetchone()
        return int(count)

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """Delete rows; shrink the file where fewer are left."""
        with self._writing():
            self._connection.executemany(
                "DELETE FROM pictures WHERE id = ?", ((number,) for number in numbers.tolist())
            )
        if self.count() < len(numbers):
            with self._lock, self._translated:
                self._connection.execute("VACUUM")

    def keep_newest(self, count: int) -> None:
        """Delete all but about the ``count`` rows that were written last."""
        with self._writing():
            newest = "SELECT max(id) FROM pictures"
            self._connection.execute(f"DELETE FROM pictures WHERE id <= ({newest}) - ?", (count,))  # noqa: S608 (a constant)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Make the ``with`` block one transaction."""
        with self._lock, self._translated:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _number(self) -> int:
        with self._lock:
            self._connection.execute(
                "INSERT INTO embedders (name) VALUES (?) ON CONFLICT DO NOTHING", (self._name,)
            )
            found = self._connection.execute(
                "SELECT id FROM embedders WHERE name = ?", (self._name,)
            )
            return int(found.fetchone()[0])

    def _list(self, first: int) -> None:
        """Let the rows from ``first`` on, this process's or another's, be found."""
        (last,) = self._connection.execute("SELECT max(id) FROM pictures").fetchone()
        for table, column in (("by_file", "file"), ("by_content", "sha256")):
            self._connection.execute(
                f"INSERT OR REPLACE INTO {table} SELECT {column}, id FROM pictures "  # noqa: S608 (of this module)
                "WHERE id >= ? AND embedder = ?",
                (first, self._embedder),
            )
        self._listed: int = last or 0

    def _select(self, where: str, *values: object) -> list[tuple[Any, ...]]:
        query = f"SELECT {_COLUMNS} FROM pictures WHERE {where}"  # noqa: S608 (of this module)
        with self._lock, self._translated:
            return self._connection.execute(query, values).fetchall()

    def _encode(
        self,
        file: Path | str,
        picture: ReadPicture,
        vector: NDArray[np.float32],
        thumbnail: bytes | None,
    ) -> tuple[object, ...]:
        read = (picture.sha256, picture.bytes, picture.mtime_ns, picture.fault)
        row = (_key(file), *read, self._side)
        data = np.ascontiguousarray(vector, "<f4").tobytes() if picture.usable else b""
        return self._embedder, *row, self._checksum(row, data, thumbnail), data, thumbnail

    def _decode(self, row: tuple[Any, ...]) -> Found | None:
        """Turn a row into what it says; ``None`` if it is damaged."""
        number, *described, checksum, vector, thumbnail = row
        try:
            damaged = self._checksum(tuple(described), vector, thumbnail) != checksum
        except (TypeError, ValueError, AttributeError, struct.error):
            damaged = True
        if damaged:
            _log.warning("a row of %s is damaged; its picture is embedded again", self.path)
            return None
        picture = ReadPicture(*described[1:5])
        return Found(number, picture, np.frombuffer(vector, "<f4"), thumbnail)

    def _checksum(
        self, described: tuple[Any, ...], vector: bytes, thumbnail: bytes | None
    ) -> bytes:
        file, sha256, size, mtime_ns, fault, side = described
        words, picture = fault.encode(), thumbnail or b""
        lengths = len(words), len(vector), -1 if thumbnail is None else len(thumbnail)
        head = _DESCRIBED.pack(file, sha256, size, mtime_ns, side, *lengths)
        data = b"".join((self._name.encode(), head, words, vector, picture))
        return hashlib.blake2b(data, digest_size=16).digest()


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _name(embedder: EmbedderReference) -> str:
    return f"{embedder.digest} {embedder.runtime} {embedder.precision}"


def _key(file: Path | str) -> bytes:
    """Return what a file is found by: a digest of its absolute path."""
    name = os.fsencode(file)
    if not name.startswith(b"/"):
        name = os.path.abspath(name)  # noqa: PTH100 (links stay as they are)
    return hashlib.blake2b(name, digest_size=16).digest()


def _open(path: Path) -> sqlite3.Connection:
    """Open a database, or make it, with its folder locked: SQLite itself refuses to wait here."""
    with _locked(path.parent):
        return _open_alone(path)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open_alone(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.OperationalError:
        raise  # it is locked, or the disk does not let us
    except sqlite3.DatabaseError as error:
        _log.warning("%s is not used: %s; its pictures are embedded again", path, error)
        delete_cache(path)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Set a database up, or check it.

    Raises:
        sqlite3.DatabaseError: It is damaged, or of another version.
    """
    for setting in (
        "temp_store = MEMORY",
        f"page_size = {_PAGE_BYTES}",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
    ):
        connection.execute(f"PRAGMA {setting}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        make = f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;"
        connection.executescript(make)
    elif version != _VERSION:
        raise sqlite3.DatabaseError(f"its version is {version}, not {_VERSION}")
    (checked,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if checked != "ok":
        raise sqlite3.DatabaseError(str(checked).replace("\n", " "))


def keep_embedders(path: Path, digests: Collection[str]) -> int:
    """Delete the rows of all other embedders from a database, and return how many there were.

    Nothing is done where there is none.

    Raises:
        OSError: It cannot be written.
    """
    if not path.is_file():
        return 0
    with _Translated(path), contextlib.closing(_open(path)) as connection:
        embedders = connection.execute("SELECT id, name FROM embedders").fetchall()
        others = [(number,) for number, name in embedders if name.split()[0] not in digests]
        deleted = connection.executemany("DELETE FROM pictures WHERE embedder = ?", others).rowcount
        if deleted > 0:
            connection.execute("VACUUM")
    return max(0, deleted)


def delete_cache(path: Path) -> None:
    """Delete a database with its log; the database first, without which SQLite ignores the log."""
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


class _Translated:
    """Raises errors of SQLite as ``OSError`` of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, sqlite3.Error):
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            code = errno.ENOSPC if full else errno.EIO
            raise OSError(code, str(error), str(self._path)) from error
