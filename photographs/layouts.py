"""Open a data folder of any layout, and list the pictures to predict for."""

import os
from pathlib import Path, PurePath

import numpy as np
import pyarrow as pa

from embedder.errors import CatalogError
from embedder.picture_files import find_file
from photographs.folders import FolderSet, describe_formats, is_picture, list_files
from photographs.gldv2 import (
    CLEAN_LIST,
    INDEX_LIST,
    SOLUTION,
    TRAIN_LIST,
    Gldv2Set,
    check_plain_ids,
    locate,
    split_of,
)
from photographs.lists import Listed, read_lines, read_list
from photographs.photograph import Photograph
from photographs.photograph_list import UNKNOWN, PhotographList
from photographs.photograph_set import PhotographSet
from photographs.shards import ShardSet
from photographs.tars import read_members


def open_data(directory: Path) -> PhotographSet:
    """Open a data folder in whichever layout it has.

    Args:
        directory: The folder given as ``--data``.

    Raises:
        CatalogError: It is not a folder, or holds none of the layouts.
    """
    if not directory.is_dir():
        what = "it is a file, not a folder" if directory.exists() else "there is no such folder"
        raise CatalogError(directory, what)
    lists = (TRAIN_LIST, CLEAN_LIST, INDEX_LIST, SOLUTION)
    if any((directory / name).is_file() for name in lists):
        return Gldv2Set(directory)
    found = FolderSet(directory)
    if not found.files and (members := read_members(directory)) and len(members.keys):
        return ShardSet(directory, members)
    if not found.files:
        raise CatalogError(
            directory,
            f"it holds neither {TRAIN_LIST} nor tars nor folders of pictures, one per landmark "
            f"{describe_formats(directory)}",
        )
    return found


def list_pictures(source: Path) -> PhotographList:
    """List the pictures to predict for: of a folder, of a list, or one alone.

    A folder is walked with all below it; where it holds no picture, those in its tars are taken.
    A ``.csv`` needs a column ``id`` (or the columns ``landmark_id,images``); any other text file
    has one entry per line. An entry with a slash or a picture's extension is a path, relative to
    the list; another is an id of the GLDv2 layout, whose file lies in ``test/``, ``index/`` or
    ``train/`` beside the list, or in a tar there.

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
        files = list_files(source)
        if not files and (members := read_members(source)):
            files = members.files.to_pylist()
        if not files:
            raise CatalogError(source, f"it holds no pictures {describe_formats(source)}")
        return _identify_by_stem(source, source, files)
    if not source.is_file():
        raise CatalogError(source, "there is no such folder or list")
    if is_picture(source.name):
        return PhotographList.of([Photograph(source.stem, source, None)])
    listed = _read_pictures(source)
    if _is_path(listed.ids[0].as_py()):
        return _identify_by_stem(source, source.parent, listed.ids.to_pylist())
    return _find_listed(source, listed)


def _read_pictures(source: Path) -> Listed:
    """Read a list for prediction: of ids of the GLDv2 layout, or of paths."""
    if source.suffix.lower() == ".csv":
        listed = read_list(source)
    else:
        lines = enumerate(map(str.strip, read_lines(source)), start=1)
        listed = Listed.of(source, ((line, (text,), None) for line, text in lines if text))
    ids = listed.ids.to_pylist()
    if not ids:
        raise CatalogError(source, "it lists no pictures")
    paths = sum(map(_is_path, ids))
    if 0 < paths < len(ids):
        raise CatalogError(source, "it mixes ids and paths: list one or the other")
    if not paths:
        return check_plain_ids(listed)
    listed.require(np.array(["\0" not in name for name in ids]), "a path cannot hold a zero byte")
    return listed


def _is_path(entry: str) -> bool:
    return "/" in entry or "." in entry or os.sep in entry


def _find_listed(source: Path, listed: Listed) -> PhotographList:
    """Find the split that a list of ids is about, by its name or else by its first picture."""
    named = source.parent / split_of(source.name)
    roots = dict.fromkeys([named, *(source.parent / split for split in ("test", "index", "train"))])
    columns = listed.ids, listed.landmarks, listed.labels
    for root in roots:
        if find_file(locate(*columns, root)[0].path)[0] >= 0:
            return locate(*columns, root)
    if named.is_dir():
        return locate(*columns, named)
    raise CatalogError(
        source,
        f"no picture of the id {listed.ids[0]} in test/, index/ or train/ beside the list",
    )


def _identify_by_stem(source: Path, root: Path, files: list[str]) -> PhotographList:
    stems = [PurePath(name).stem for name in files]
    first: dict[str, str] = {}
    for stem, name in zip(stems, files, strict=True):
        if first.setdefault(stem, name) is not name:
            raise CatalogError(
                source, f"{root / first[stem]} and {root / name} would both have the id {stem}"
            )
    labels = np.full(len(stems), UNKNOWN, np.int32)
    return PhotographList(pa.array(stems, pa.string()), [], labels, root, pa.array(files))
