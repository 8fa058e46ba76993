"""The folders layout: one folder per landmark, whose name is the landmark's id and its name.

Pictures may lie in folders below it. A picture's id is its path below the data folder without
the extension (``Hawa Mahal/IMG_0412``), which stays the same whatever is added beside it; only
pictures whose paths differ in nothing but the extension keep theirs. No picture is opened.
"""

import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from embedder.errors import CatalogError
from embedder.formats.opening import read_suffixes
from photographs.lists import pick_listed
from photographs.names import landmark_order, normal_form
from photographs.photograph import CREDIT_COLUMNS, Query
from photographs.photograph_list import PhotographList, in_landmark_order
from photographs.photograph_set import PhotographSet

_OTHER_SUFFIXES = (
    *(".avif", ".heic", ".heif", ".hif"),  # read where their decoders are
    *(".bmp", ".jp2", ".jxl", ".tif", ".tiff", ".cr2", ".dng", ".nef", ".arw"),
)
_SPLITS = frozenset({"train", "test", "val", "valid", "validation", "index"})


class FolderSet(PhotographSet):
    """A data folder with one folder per landmark.

    Attributes:
        files: Its pictures, as relative paths with "/", sorted.
    """

    layout = "folders"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.files = list_files(directory)
        self._refuse_splits()

    def default_list(self) -> None:
        """Return ``None``: by default every picture is listed."""

    def gallery(self, list_name: str | None = None) -> PhotographList:
        """List every picture, or those of a list, whose landmarks outrank the folders'."""
        names, paths = self._identify()
        ids, files = pa.array(names, pa.string()), pa.array(paths, pa.string())
        if list_name is not None:
            return pick_listed(self.directory / list_name, ids, files, self.directory)
        if loose := [name for name in paths if "/" not in name]:
            raise CatalogError(
                self.directory,
                f"{len(loose)} of its pictures lie in no landmark's folder, the first is "
                f"{loose[0]}: move them into a folder named after what they show",
            )
        codes: dict[str, int] = {}
        labels = [codes.setdefault(_landmark_of(name), len(codes)) for name in paths]
        named = in_landmark_order([*codes], np.array(labels, np.int32))
        return PhotographList(ids, *named, self.directory, files).in_gallery_order()

    def queries(self) -> list[Query]:
        """List every picture; one outside the landmark folders shows no landmark."""
        return [
            Query(
                id=picture_id,
                path=self.directory / name,
                landmark_ids=(_landmark_of(name),) if "/" in name else (),
            )
            for picture_id, name in zip(*self._identify(), strict=True)
        ]

    def _identify(self) -> tuple[list[str], list[str]]:
        """Return the ids of the pictures, sorted, and their files."""
        stems = Counter(_stem(name) for name in self.files)
        taken = set(self.files)
        pictures = []
        for name in self.files:
            stem = _stem(name)
            unique = stems[stem] == 1 and stem not in taken
            pictures.append((normal_form(stem if unique else name), name))
        pictures.sort()
        for (first, name), (second, other) in pairwise(pictures):
            if first == second:  # names that differ only in how accents are written
                raise CatalogError(
                    self.directory,
                    f"{self.directory / name} and {self.directory / other} would both have the "
                    f"id {first}",
                )
        return [first for first, _ in pictures], [name for _, name in pictures]

    def names(self, list_name: str | None = None) -> dict[str, str]:
        """Return the folders' names, each by itself."""
        landmarks = {_landmark_of(name) for name in self.files if "/" in name}
        return {landmark: landmark for landmark in sorted(landmarks, key=landmark_order)}

    def links(self, list_name: str | None = None) -> dict[str, str]:
        """Return nothing: folders tell no addresses."""
        return {}

    def credits(self, list_name: str) -> pa.Table:
        """Return none: folders tell no credits."""
        return CREDIT_COLUMNS.empty_table()

    def _refuse_splits(self) -> None:
        """Refuse folders train/ and test/ with landmarks below: they would pass for landmarks."""
        tops = {name.partition("/")[0] for name in self.files}
        if tops and tops <= _SPLITS and all(name.count("/") > 1 for name in self.files):
            raise CatalogError(
                self.directory,
                f"its folders are parts of a data set ({', '.join(sorted(tops))}), not landmarks: "
                f"give one of them, for example {self.directory / min(tops)}",
            )


def list_files(top: Path) -> list[str]:
    """List the pictures below a folder as relative paths with "/", sorted, without hidden ones.

    Links are followed, but never back into a folder that is being walked.

    Raises:
        CatalogError: A folder cannot be read, or a name is not UTF-8.
    """
    found: list[str] = []

    def visit(folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        status = os.stat(folder)  # noqa: PTH116 (folders by the thousand: text paths are quicker)
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    visit(entry.path, f"{prefix}{entry.name}/", above | {identity})
                elif is_picture(entry.name):
                    found.append(prefix + entry.name)

    try:
        visit(str(top), "", frozenset())
        _check_text(top, found)
    except OSError as error:
        raise CatalogError(Path(error.filename or top), error.strerror or "unreadable") from error
    return sorted(found)


def describe_formats(directory: Path) -> str:
    """Say which formats are read, and which others a folder without pictures holds."""
    suffixes = read_suffixes()
    read = ", ".join(sorted(suffix[1:] for suffix in suffixes))
    counts = Counter(path.suffix.lower() for path in directory.rglob("*"))
    unread = [suffix for suffix in _OTHER_SUFFIXES if suffix not in suffixes and counts[suffix]]
    others = [f"{counts[suffix]} {suffix[1:]}" for suffix in unread]
    return f"({read})" + (f"; it holds {', '.join(others)}, which are not read" if others else "")


def _check_text(top: Path, names: list[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise CatalogError(top, f"the name of {name!r} is not text in UTF-8") from error


def is_picture(name: str) -> bool:
    """Tell by its extension whether a file is a picture that is read here."""
    return os.path.splitext(name)[1].lower() in read_suffixes()  # noqa: PTH122 (quick: per file)


def _landmark_of(name: str) -> str:
    return normal_form(name.partition("/")[0])


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122 (a path as text: "/" on every system)
