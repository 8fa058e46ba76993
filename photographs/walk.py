"""Walk a folder for pictures. No picture is opened: names tell what is one."""

import os
from pathlib import Path

import pyarrow as pa

from embedder.errors import CatalogError
from embedder.formats.opening import format_of_suffix, read_formats
from photographs.passed_over import (
    HOUSEKEEPING,
    NOT_TEXT,
    SPECIAL,
    PassedOver,
    is_housekeeping,
    is_text,
    printable,
)


def walk_pictures(top: Path) -> tuple[pa.StringArray, PassedOver]:
    """List the pictures below a folder, without hidden ones.

    Links are followed, but never back into a folder that is being walked.

    Returns:
        ``(n,)`` relative paths with "/", sorted; and what is passed over.

    Raises:
        CatalogError: A folder cannot be read.
    """
    walk = _Walk()
    try:
        walk.visit(str(top), "", frozenset())
    except OSError as error:
        path = Path(error.filename or top)
        raise CatalogError(path, error.strerror or "unreadable") from error
    walk.files.sort()
    passed = PassedOver(tuple(sorted(walk.passed)), walk.others)
    return pa.array(walk.files, pa.string()), passed


def is_picture(name: str) -> bool:
    """Tell by its extension whether a file is a picture that is read here."""
    return format_of_suffix(os.path.splitext(name)[1]) in read_formats()  # noqa: PTH122 (quick)


class _Walk:
    def __init__(self) -> None:
        self.files: list[str] = []
        self.passed: list[tuple[str, str]] = []
        self.others = 0
        self._read = frozenset(read_formats())

    def visit(self, folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        status = os.stat(folder)  # noqa: PTH116 (folders by the thousand: text paths are quicker)
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not entry.is_dir():
                    self._add_file(entry, prefix)
                elif kind := _kind_of_folder(entry.name):
                    self.passed.append((printable(prefix + entry.name), kind))
                else:
                    self.visit(entry.path, f"{prefix}{entry.name}/", above | {identity})

    def _add_file(self, entry: os.DirEntry[str], prefix: str) -> None:
        name = entry.name
        kind = format_of_suffix(os.path.splitext(name)[1])  # noqa: PTH122 (quick: per file)
        if not kind:
            self.others += 1
            return
        if not is_text(name):
            kind = NOT_TEXT
        elif not (entry.is_file() or entry.is_symlink()):  # a broken link: a picture is missing
            kind = SPECIAL
        if kind in self._read:
            self.files.append(prefix + name)
        else:
            self.passed.append((printable(prefix + name), kind))


def _kind_of_folder(name: str) -> str:
    """Return why a folder is not entered; empty where it is."""
    if is_housekeeping(name):
        return HOUSEKEEPING
    return "" if is_text(name) else NOT_TEXT
