"""Files written whole or not at all, and checked by their digest.

Every artifact lists its files as :class:`FileRecord`; :func:`check` compares. Nothing here
knows what the files mean.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Self

from pydantic import BaseModel, ConfigDict, Field

from embedder.errors import ArtifactDamagedError, ArtifactMissingError

BLOCK_BYTES = 4 << 20
"""Size of the blocks of a large file that are checked one by one."""

LARGE_BYTES = 64 << 20
"""A file of at least this size is large: opening compares its size, a later pass its blocks."""


class FileRecord(BaseModel):
    """Size and digests of one file of an artifact.

    Attributes:
        bytes: Exact size.
        sha256: ``sha256:<hex>`` of the whole file.
        blocks: Of a large file, the digest of each :data:`BLOCK_BYTES` block in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    blocks: tuple[str, ...] | None = None


def sha256_bytes(data: bytes) -> str:
    """Return ``sha256:<hex>`` of ``data``.

    >>> sha256_bytes(b"")[:19]
    'sha256:e3b0c44298fc'
    """
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return ``sha256:<hex>`` of the file at ``path``."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def record(path: Path) -> FileRecord:
    """Describe the file at ``path``; a large one gets the digests of its blocks too."""
    size = path.stat().st_size
    if size < LARGE_BYTES:
        return FileRecord(bytes=size, sha256=sha256_file(path))
    whole = hashlib.sha256()
    blocks = []
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            whole.update(block)
            blocks.append(sha256_bytes(block))
    return FileRecord(bytes=size, sha256=f"sha256:{whole.hexdigest()}", blocks=tuple(blocks))


class RecordedFile:
    """A new file that is described while it is written, so that it need not be read for that.

    A binary file for writers that neither seek nor read.

    Attributes:
        closed: Whether it was closed.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._whole, self._block = hashlib.sha256(), hashlib.sha256()
        self._blocks: list[str] = []
        self._bytes = 0
        self.closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes."""
        view = memoryview(data)
        view = view.cast("B") if view.nbytes else view[:0]
        self._file.write(view)
        self._whole.update(view)
        written = len(view)
        while len(view):
            space = BLOCK_BYTES - self._bytes % BLOCK_BYTES
            part, view = view[:space], view[space:]
            self._block.update(part)
            self._bytes += len(part)
            if len(part) == space:
                self._blocks.append(f"sha256:{self._block.hexdigest()}")
                self._block = hashlib.sha256()
        return written

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file; an error in doing so is raised, like those of :meth:`write`."""
        self.closed = True
        self._file.close()

    def record(self) -> FileRecord:
        """Return what :func:`record` finds in the closed file."""
        last = [f"sha256:{self._block.hexdigest()}"] if self._bytes % BLOCK_BYTES else []
        blocks = (*self._blocks, *last) if self._bytes >= LARGE_BYTES else None
        return FileRecord(
            bytes=self._bytes, sha256=f"sha256:{self._whole.hexdigest()}", blocks=blocks
        )


def check(path: Path, expected: FileRecord, *, deep: bool) -> None:
    """Compare the file at ``path`` with its record.

    Args:
        path: The file.
        expected: What it must be.
        deep: Read large files too; otherwise only their size is compared.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactDamagedError: Its size or digest differs.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise ArtifactMissingError(path) from error
    if size != expected.bytes:
        raise ArtifactDamagedError(path, f"it has {size} bytes and should have {expected.bytes}")
    if not deep and size >= LARGE_BYTES:
        return
    found = sha256_file(path)
    if found != expected.sha256:
        raise ArtifactDamagedError(path, f"its digest is {found} and should be {expected.sha256}")


def check_files(directory: Path, files: Mapping[str, FileRecord], *, deep: bool) -> None:
    """Compare files with their records: see :func:`check`.

    Args:
        directory: The artifact.
        files: By name, what each of its files must be.
        deep: Read large files too; otherwise only their size is compared.

    Raises:
        ArtifactMissingError: A file is missing.
        ArtifactDamagedError: A file was altered or truncated.
    """
    for name, expected in files.items():
        check(directory / name, expected, deep=deep)


def check_blocks(path: Path, expected: FileRecord) -> Iterator[int]:
    """Compare a file with its record block by block, to run beside other work.

    A mapped file may be altered while it is in use, and reading a large one takes seconds: after
    each block the caller decides when to go on, or to stop.

    Args:
        path: The file.
        expected: What it must be; without digests of blocks the whole file is one block.

    Yields:
        How many bytes of the file are checked so far.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactDamagedError: Its size or a block differs; the offset of the block is named.
    """
    if expected.blocks is None:
        check(path, expected, deep=True)
        yield expected.bytes
        return
    check(path, expected, deep=False)
    done = 0
    with path.open("rb") as file:
        for digest in expected.blocks:
            block = file.read(BLOCK_BYTES)
            if (found := sha256_bytes(block)) != digest:
                place = f"the block at byte {done}"
                raise ArtifactDamagedError(
                    path, f"the digest of {place} is {found} and should be {digest}"
                )
            done += len(block)
            yield done


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader, or a crash, sees the old file or the new one."""
    with atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that takes the place of ``path``, durably, when the block ends.

    A reader, or a crash, sees the old file or the new one; after an error the old one stays. Who
    may read it is as for any new file: the umask, or the folder's own list, decides.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Force the entries of ``directory`` itself to disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(directory: Path) -> None:
    """Force every file below ``directory``, and every folder, to disk."""
    for path in sorted(directory.rglob("*")):
        if path.is_dir():
            sync_directory(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_directory(directory)
