"""Where the bytes of a picture lie: in a file of its own, or in a tar.

The path of a picture in a tar is that of the tar, the offset of its header there, and its name
for people: ``train/images_000.tar/@1536/0/0/0/0001abc.jpg``. So it is read without a table of the
tar, and the header that is found at the offset proves that the tar is still the same.
"""

import errno
import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MEMBER = re.compile(r"(?P<tar>.*?\.tar)/@(?P<header>\d+)/.*", re.DOTALL)
_BLOCK_BYTES = 1 << 20
_NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PictureFile:
    """An open picture.

    Attributes:
        file: At the picture's first byte.
        size: Its bytes.
        mtime_ns: Modification time in nanoseconds since 1970; in a tar, whole seconds.
    """

    file: BinaryIO
    size: int
    mtime_ns: int

    def read(self, limit: int) -> bytes:
        """Read the picture, but no more than ``limit`` bytes of it."""
        return self.file.read(min(limit, self.size))

    def sha256(self) -> bytes:
        """Read the picture, however large, and return its SHA-256, 32 bytes."""
        digest, left = hashlib.sha256(), self.size
        while block := self.file.read(min(left, _BLOCK_BYTES)):
            digest.update(block)
            left -= len(block)
        return digest.digest()


@contextmanager
def open_file(path: Path) -> Iterator[PictureFile]:
    """Open a picture that has a file of its own or lies in a tar.

    Raises:
        OSError: It is not there, is no regular file, or cannot be read; ``strerror`` says why.
    """
    try:
        file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 (closed below)
    except NotADirectoryError:
        with _open_member(path) as member:
            yield member
        return
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        yield PictureFile(file, status.st_size, status.st_mtime_ns)


def _open_at_once(path: str, flags: int) -> int:
    """Open a file as :func:`open` does, but do not wait for the writer of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def find_file(path: Path) -> tuple[int, int]:
    """Return size and modification time (ns) of a picture, or -1 and -1 where it is missing."""
    try:
        status = path.stat()
    except NotADirectoryError:
        return _find_member(path)
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns


def member_path(tar: str, header: int, name: str) -> str:
    """Return the path of a picture in a tar.

    Args:
        tar: Path of the tar; it ends with ``.tar``.
        header: Offset of the last header block before the picture's bytes.
        name: Of the picture.

    >>> member_path("train/images_000.tar", 1536, "0/0/0/0001abc.jpg")
    'train/images_000.tar/@1536/0/0/0/0001abc.jpg'
    """
    return f"{tar}/@{header}/{name}"


def _find_member(path: Path) -> tuple[int, int]:
    try:
        with _open_member(path) as member:
            return member.size, member.mtime_ns
    except OSError:
        return -1, -1


@contextmanager
def _open_member(path: Path) -> Iterator[PictureFile]:
    named = _MEMBER.fullmatch(path.as_posix())
    if not named:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    with Path(named["tar"]).open("rb") as file:
        file.seek(int(named["header"]))
        try:
            header = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "replace")
        except tarfile.HeaderError as error:
            raise _changed(path) from error
        if not header.isreg():
            raise _changed(path)
        yield PictureFile(file, header.size, int(header.mtime) * _NS_PER_SECOND)


def _changed(path: Path) -> OSError:
    return FileNotFoundError(errno.ENOENT, "its tar has changed", str(path))
