"""The folders layout: one folder per landmark, whose name is the landmark's id and its name.

Pictures may lie in folders below it. A picture's id is its path below the data folder without
the extension (``Hawa Mahal/IMG_0412``), which stays the same whatever is added beside it; only
pictures whose paths differ in nothing but the extension keep theirs. No picture is opened.
"""

from itertools import count, groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedder.errors import CatalogError
from photographs.lists import pick_listed
from photographs.names import landmark_order, normal_forms
from photographs.photograph import CREDIT_COLUMNS
from photographs.photograph_list import UNKNOWN, PhotographList, in_landmark_order
from photographs.photograph_set import PhotographSet
from photographs.query_list import QueryList
from photographs.walk import walk_pictures

_SPLITS = frozenset({"train", "test", "val", "valid", "validation", "index"})


class FolderSet(PhotographSet):
    """A data folder with one folder per landmark.

    Attributes:
        files: Its pictures, ``(n,)`` relative paths with "/", sorted.
    """

    layout = "folders"

    def __init__(self, directory: Path) -> None:
        self.files, passed_over = walk_pictures(directory)
        super().__init__(directory, passed_over.beside(self._landmarks()))
        self._refuse_splits()

    def default_list(self) -> None:
        """Return ``None``: by default every picture is listed."""

    def gallery(self, list_name: str | None = None) -> PhotographList:
        """List every picture, or those of a list, whose landmarks outrank the folders'."""
        ids, files = self._identify()
        if list_name is not None:
            return pick_listed(self.directory / list_name, ids, files, self.directory)
        loose = files.filter(pc.invert(pc.match_substring(files, "/")))
        if len(loose):
            raise CatalogError(
                self.directory,
                f"{len(loose)} of its pictures lie in no landmark's folder, the first is "
                f"{loose[0]}: move them into a folder named after what they show",
            )
        shown = _landmarks_of(files).dictionary_encode()
        labels = shown.indices.to_numpy().astype(np.int32)
        named = in_landmark_order(shown.dictionary.to_pylist(), labels)
        return PhotographList(ids, *named, self.directory, files).in_gallery_order()

    def queries(self) -> QueryList:
        """List every picture; one outside the landmark folders shows no landmark."""
        ids, files = self._identify()
        shown = _landmarks_of(files).dictionary_encode()
        in_folder = pc.match_substring(files, "/").to_numpy(zero_copy_only=False)
        labels = np.where(in_folder, shown.indices.to_numpy(), UNKNOWN).astype(np.int32)
        named = in_landmark_order(shown.dictionary.to_pylist(), labels)
        return QueryList.of_labels(PhotographList(ids, *named, self.directory, files))

    def names(self, list_name: str | None = None) -> dict[str, str]:
        """Return the folders' names, each by itself."""
        return {landmark: landmark for landmark in sorted(self._landmarks(), key=landmark_order)}

    def links(self, list_name: str | None = None) -> dict[str, str]:
        """Return nothing: folders tell no addresses."""
        return {}

    def credits(self, list_name: str) -> pa.Table:
        """Return none: folders tell no credits."""
        return CREDIT_COLUMNS.empty_table()

    def _identify(self) -> tuple[pa.StringArray, pa.StringArray]:
        """Return the ids of the pictures, sorted, and their files."""
        ids = path_ids(self.files)
        order = pc.array_sort_indices(ids)
        return ids.take(order), self.files.take(order)

    def _landmarks(self) -> list[str]:
        inside = self.files.filter(pc.match_substring(self.files, "/"))
        landmarks: list[str] = _landmarks_of(inside).unique().to_pylist()
        return landmarks

    def _refuse_splits(self) -> None:
        """Refuse folders train/ and test/ with landmarks below: they would pass for landmarks."""
        tops = {*self._landmarks()}
        deep = pc.greater(pc.count_substring(self.files, "/"), 1)
        if tops and tops <= _SPLITS and pc.all(deep).as_py():
            raise CatalogError(
                self.directory,
                f"its folders are parts of a data set ({', '.join(sorted(tops))}), not landmarks: "
                f"give one of them, for example {self.directory / min(tops)}",
            )


def _landmarks_of(files: pa.StringArray) -> pa.StringArray:
    """Return the landmark of each file: the folder at the top."""
    return normal_forms(pc.replace_substring_regex(files, r"(?s)/.*", ""))


def path_ids(files: pa.StringArray) -> pa.StringArray:
    """Derive ids, each once and in the normal form, from ``(n,)`` paths of pictures.

    An id is the path without its extension, unless another file has the same; of paths that
    differ only in how accents are written, all but the first are numbered.
    """
    names = normal_forms(files)
    stems = without_extensions(names)
    unique = ~(repeated(stems) | as_mask(pc.is_in(stems, value_set=names)))
    ids = pc.if_else(pa.array(unique), stems, names)
    again = np.flatnonzero(repeated(ids))
    if len(again):
        ids = _numbered(ids.to_pylist(), again.tolist())
    return ids


def _numbered(ids: list[str], places: list[int]) -> pa.StringArray:
    """Number the ids of some places, so that each is there once."""
    taken = set(ids)
    for picture_id, group in groupby(sorted(places, key=lambda at: (ids[at], at)), ids.__getitem__):
        numbers = count(2)
        for place in list(group)[1:]:
            ids[place] = next(new for n in numbers if (new := f"{picture_id}#{n}") not in taken)
            taken.add(ids[place])
    return pa.array(ids, pa.string())


def without_extensions(paths: pa.StringArray) -> pa.StringArray:
    """Cut the extension off each path."""
    return pc.replace_substring_regex(paths, r"([^/])\.[^./]*$", r"\1")


def repeated(texts: pa.StringArray) -> NDArray[np.bool_]:
    """Tell of each text whether it is there more than once."""
    numbers = texts.dictionary_encode().indices.to_numpy()
    counts: NDArray[np.bool_] = np.bincount(numbers)[numbers] > 1
    return counts


def as_mask(column: pa.BooleanArray) -> NDArray[np.bool_]:
    """Return a column without nulls as an array."""
    mask: NDArray[np.bool_] = column.to_numpy(zero_copy_only=False)
    return mask
