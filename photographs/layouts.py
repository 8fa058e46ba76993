"""Open a data folder of any layout, and list the pictures to predict for."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedder.errors import CatalogError
from embedder.formats.opening import read_formats
from embedder.picture_files import find_file
from embedder.text import normal_form
from photographs.folders import FolderSet, path_ids, repeated, without_extensions
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
from photographs.lists import Listed, read_header, read_lines, read_list
from photographs.names import normal_forms
from photographs.passed_over import PassedOver, is_text, printable
from photographs.photograph import Photograph
from photographs.photograph_list import UNKNOWN, PhotographList
from photographs.photograph_set import Layout, PhotographSet
from photographs.shards import ShardSet
from photographs.tars import read_members
from photographs.walk import is_picture, walk_pictures

_LISTS = (TRAIN_LIST, CLEAN_LIST, INDEX_LIST, SOLUTION)
_LOOKED_FOR = f"neither {TRAIN_LIST} nor tars nor folders of pictures, one per landmark"


def open_data(directory: Path, layout: Layout | None = None) -> PhotographSet:
    """Open a data folder, and log what is passed over in it.

    Args:
        directory: The folder given as ``--data``.
        layout: Which layout it has; by default the first of these that is found: a list of Google
            Landmarks v2, folders of pictures, tars.

    Raises:
        CatalogError: It is not a folder, or does not hold the layout.
    """
    if not directory.is_dir():
        what = "it is a file, not a folder" if directory.exists() else "there is no such folder"
        raise CatalogError(directory, what)
    _require_text(directory)
    if layout == "gldv2" or (layout is None and _is_gldv2(directory)):
        return Gldv2Set(directory)
    found: FolderSet | ShardSet = (
        ShardSet(directory) if layout == "shards" else FolderSet(directory)
    )
    if layout is None and not len(found.files):
        shards = ShardSet(directory)
        found = shards if len(shards.files) else found
    if not len(found.files):
        what = _LOOKED_FOR if layout is None else f"no pictures in the layout {layout}"
        raise CatalogError(directory, f"it holds {what} {_describe_formats(found.passed_over)}")
    found.passed_over.log(directory)
    return found


def _is_gldv2(directory: Path) -> bool:
    """Tell whether a list of Google Landmarks v2 lies in a folder.

    Raises:
        CatalogError: Only files lie there that have its name and other columns.
    """
    headers = {
        name: read_header(directory / name) for name in _LISTS if (directory / name).is_file()
    }
    if headers and not any({"id", "images"} & {*header} for header in headers.values()):
        name, header = next(iter(headers.items()))
        raise CatalogError(
            directory / name,
            f"line 1: no column id; it has {', '.join(header) or 'none'}. If this is no list of "
            "Google Landmarks v2, and each folder beside it a landmark, say --layout folders",
        )
    return bool(headers)


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
        without the extension; where two would be alike, the ids of all are those of
        :func:`photographs.folders.path_ids`.

    Raises:
        CatalogError: Nothing is there, or the list is faulty; the line is named.
    """
    _require_text(source)
    if source.is_dir():
        return _walk_unlabeled(source)
    if not source.is_file():
        raise CatalogError(source, "there is no such folder or list")
    if is_picture(source.name):
        return PhotographList.of([Photograph(normal_form(source.stem), source, None)])
    listed = _read_pictures(source)
    if _is_path(listed.ids[0].as_py()):
        return _identify(source.parent, listed.ids)
    return _find_listed(source, listed)


def _walk_unlabeled(folder: Path) -> PhotographList:
    files, passed_over = walk_pictures(folder)
    if not len(files) and len((members := read_members(folder)).files):
        files, passed_over = members.files, members.passed_over
    if not len(files):
        raise CatalogError(folder, f"it holds no pictures {_describe_formats(passed_over)}")
    passed_over.log(folder)
    return _identify(folder, files)


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


def _identify(root: Path, files: pa.StringArray) -> PhotographList:
    """Name pictures by their file names; by their paths, as a build does, if two are alike."""
    names = pc.replace_substring_regex(normal_forms(files), r"(?s)^.*/", "")
    ids = without_extensions(names)
    if repeated(ids).any():
        ids = path_ids(files)
    labels = np.full(len(ids), UNKNOWN, np.int32)
    return PhotographList(ids, [], labels, root, files)


def _describe_formats(passed_over: PassedOver) -> str:
    """Say which formats are read, and what else a folder without pictures holds."""
    others = f"; passed over: {passed_over}" if passed_over.counts() else ""
    return f"({', '.join(read_formats())}){others}"


def _require_text(path: Path) -> None:
    if not is_text(str(path)):
        raise CatalogError(Path(printable(str(path))), "its path is not text in UTF-8")
