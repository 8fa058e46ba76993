"""Open a data folder of either layout, and list the pictures to predict for."""

import os
from collections.abc import Iterator
from pathlib import Path

from embedder.errors import CatalogError
from photographs.folders import FolderSet, describe_formats, is_picture, list_files
from photographs.gldv2 import (
    CLEAN_LIST,
    INDEX_LIST,
    SOLUTION,
    TRAIN_LIST,
    Gldv2Set,
    check_plain_id,
    picture_path,
    split_of,
)
from photographs.lists import Entry, distinct, read_lines, read_list
from photographs.photograph import Photograph, PhotographSet


def open_data(directory: Path) -> PhotographSet:
    """Open a data folder in whichever layout it has.

    Args:
        directory: The folder given as ``--data``.

    Raises:
        CatalogError: It is not a folder, or holds neither layout.
    """
    if not directory.is_dir():
        what = "it is a file, not a folder" if directory.exists() else "there is no such folder"
        raise CatalogError(directory, what)
    lists = (TRAIN_LIST, CLEAN_LIST, INDEX_LIST, SOLUTION)
    if any((directory / name).is_file() for name in lists):
        return Gldv2Set(directory)
    found = FolderSet(directory)
    if not found.files:
        raise CatalogError(
            directory,
            f"it holds neither {TRAIN_LIST} nor folders of pictures, one per landmark "
            f"{describe_formats(directory)}",
        )
    return found


def list_pictures(source: Path) -> list[Photograph]:
    """List the pictures to predict for: of a folder, of a list, or one alone.

    A folder is walked with all below it. A ``.csv`` needs a column ``id`` (or the columns
    ``landmark_id,images``); any other text file has one entry per line. An entry with a slash or
    a picture's extension is a path, relative to the list; another is an id of the GLDv2 layout,
    whose file lies in ``test/``, ``index/`` or ``train/`` beside the list.

    Args:
        source: A folder, a list, or a picture.

    Returns:
        In the order of the list; a folder's sorted by path. The id of a picture is its file name
        without the extension.

    Raises:
        CatalogError: Nothing is there, two pictures have one id, or the list is faulty; the
            line is named.
    """
    if source.is_dir():
        paths = [source / name for name in list_files(source)]
        if not paths:
            raise CatalogError(source, f"it holds no pictures {describe_formats(source)}")
        return _identify_by_stem(source, paths)
    if not source.is_file():
        raise CatalogError(source, "there is no such folder or list")
    if is_picture(source.name):
        return [Photograph(source.stem, source, None)]
    entries = _read_entries(source)
    if _is_path(entries[0].id):
        return _identify_by_stem(source, [source.parent / entry.id for entry in entries])
    root = _find_root(source, entries[0].id)
    return [
        Photograph(entry.id, picture_path(root, entry.id), entry.landmark_id) for entry in entries
    ]


def _read_entries(source: Path) -> list[Entry]:
    """Read a list for prediction: of ids of the GLDv2 layout, or of paths."""
    entries = list(read_list(source) if source.suffix.lower() == ".csv" else _read_text(source))
    if not entries:
        raise CatalogError(source, "it lists no pictures")
    for entry in entries:
        if not _is_path(entry.id):
            check_plain_id(source, entry.line, entry.id)
        elif "\0" in entry.id:
            raise CatalogError(source, f"line {entry.line}: a path cannot hold a zero byte")
    if len({_is_path(entry.id) for entry in entries}) > 1:
        raise CatalogError(source, "it mixes ids and paths: list one or the other")
    return entries


def _read_text(source: Path) -> Iterator[Entry]:
    lines = enumerate(map(str.strip, read_lines(source)), start=1)
    return distinct(source, (Entry(line, text, None) for line, text in lines if text))


def _is_path(entry: str) -> bool:
    return "/" in entry or "." in entry or os.sep in entry


def _find_root(source: Path, first: str) -> Path:
    """Find the folder that a list of ids is about, by its name or else by its first picture."""
    named = source.parent / split_of(source.name)
    for root in (named, *(source.parent / split for split in ("test", "index", "train"))):
        if picture_path(root, first).is_file():
            return root
    if named.is_dir():
        return named
    raise CatalogError(
        source, f"no picture of the id {first} in test/, index/ or train/ beside the list"
    )


def _identify_by_stem(source: Path, paths: list[Path]) -> list[Photograph]:
    first: dict[str, Path] = {}
    for path in paths:
        if first.setdefault(path.stem, path) is not path:
            raise CatalogError(
                source, f"{first[path.stem]} and {path} would both have the id {path.stem}"
            )
    return [Photograph(path.stem, path, None) for path in paths]
