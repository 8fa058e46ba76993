"""The gldv2 layout: the files of Google Landmarks v2 as they are published.

::

    train.csv                      id,url,landmark_id
    train_clean.csv                landmark_id,images    (ids separated by spaces)
    train_gldv2x.csv               every picture of train.csv whose landmark is in train_clean.csv
                                   (GLDv2x; need not be there: it follows from the two)
    train_label_to_category.csv    landmark_id,category  (the address of a Wikimedia category)
    index.csv                      id[,url]   with index_image_to_landmark.csv: id,landmark_id
    recognition_solution_v2.1.csv  id,landmarks,Usage    (no landmark, one, or several)
    train_attribution.csv          id,url,author,license,title   (index_… alike; may be absent)
    train/a/b/c/abc….jpg           index/… and test/… alike
    train/images_000.tar           the tars of such pictures as they are published, instead or too

Nothing here opens a picture or looks for its file: a list of a million rows is read in seconds,
and whoever reads a picture finds it missing.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedder.errors import CatalogError
from embedder.text import normal_form
from photographs.lists import Listed, Row, read_list, read_rows
from photographs.photograph import CREDIT_COLUMNS
from photographs.photograph_list import UNKNOWN, PhotographList, in_landmark_order
from photographs.photograph_set import PhotographSet
from photographs.query_list import QueryList
from photographs.tars import read_members

TRAIN_LIST, CLEAN_LIST, INDEX_LIST = "train.csv", "train_clean.csv", "index.csv"
EXTENDED_LIST = "train_gldv2x.csv"
SOLUTION = "recognition_solution_v2.1.csv"
ATTRIBUTION = "train_attribution.csv"

SPLIT_FILES = {
    "train": (TRAIN_LIST, CLEAN_LIST, "train_label_to_category.csv"),
    "index": (INDEX_LIST, "index_image_to_landmark.csv", "index_label_to_category.csv"),
    "test": ("test.csv", SOLUTION, "retrieval_solution_v2.1.csv"),
}
"""The files of each split, beside the attribution of its pictures."""

GALLERY_LISTS = (CLEAN_LIST, TRAIN_LIST, INDEX_LIST)
"""The lists that a gallery is made of; the first that is there is the default."""

_BLOCK_ROWS = 1 << 16
_WEB_PAGE = re.compile(r"https?://\S+\Z", re.IGNORECASE)
_PLAIN_ID = r"\A[0-9A-Za-z_-]{3,}\z"


class Gldv2Set(PhotographSet):
    """A data folder in the layout of Google Landmarks v2."""

    layout = "gldv2"

    def default_list(self) -> str:
        """Return the first of :data:`GALLERY_LISTS` that is there."""
        for name in GALLERY_LISTS:
            if (self.directory / name).is_file():
                return name
        raise CatalogError(self.directory, f"it holds none of {', '.join(GALLERY_LISTS)}")

    def gallery(self, list_name: str | None = None) -> PhotographList:
        """List the photographs of a list; of the index, landmarks come from their own file."""
        path = self.directory / (list_name or self.default_list())
        if list_name == EXTENDED_LIST and not path.is_file():
            return self._extended()
        listed = _read_plain_list(path)
        landmarks, labels = listed.landmarks, listed.labels
        if not landmarks:
            landmarks, labels = self._index_landmarks(listed.ids)
        root = self.directory / split_of(path.name)
        return locate(listed.ids, landmarks, labels, root).in_gallery_order()

    def _extended(self) -> PhotographList:
        """List the pictures of the train list whose landmark is in the clean one."""
        every = self.gallery(TRAIN_LIST)
        clean = set(_read_plain_list(self.directory / CLEAN_LIST).landmarks)
        shown = np.array([*(landmark in clean for landmark in every.landmarks), False])
        return every.where(shown[every.labels])  # UNKNOWN is the last

    def queries(self) -> QueryList:
        """List the pictures of the recognition solution."""
        path = self.directory / SOLUTION
        if not path.is_file():
            return QueryList.of(PhotographList.of(()), ())
        landmarks: list[tuple[str, ...]] = []

        def rows() -> Iterator[Row]:
            for line, (picture_id, shown) in read_rows(path, ("id", "landmarks")):
                landmarks.append(tuple(dict.fromkeys(normal_form(shown).split())))
                yield line, (picture_id,), None

        listed = check_plain_ids(Listed.of(path, rows()))
        located = locate(listed.ids, [], listed.labels, self.directory / "test")
        return QueryList.of(located, landmarks)

    def names(self, list_name: str | None = None) -> dict[str, str]:
        """Return the names that the addresses of the categories hold."""
        categories = self._categories(list_name)
        return {landmark: _category_name(address) for landmark, address in categories}

    def links(self, list_name: str | None = None) -> dict[str, str]:
        """Return the addresses of the categories; others than of web pages are left out."""
        categories = self._categories(list_name)
        return {landmark: address for landmark, address in categories if _WEB_PAGE.match(address)}

    def _categories(self, list_name: str | None) -> Iterator[tuple[str, str]]:
        # Landmarks of the index are numbered apart from those of the training pictures.
        split = split_of(Path(list_name or self.default_list()).name)
        path = self.directory / f"{split}_label_to_category.csv"
        if path.is_file():
            for _, (landmark, address) in read_rows(path, ("landmark_id", "category")):
                yield normal_form(landmark), address

    def credits(self, list_name: str) -> pa.Table:
        """Return the credits of the list's split."""
        path = self.directory / f"{split_of(Path(list_name).name)}_attribution.csv"
        blocks = list[pa.RecordBatch]()
        rows = read_rows(path, CREDIT_COLUMNS.names) if path.is_file() else iter(())
        while block := [fields for _, fields in islice(rows, _BLOCK_ROWS)]:
            columns = (pa.array(column, pa.string()) for column in zip(*block, strict=True))
            known = [pc.if_else(pc.equal(column, ""), None, column) for column in columns]
            blocks.append(pa.record_batch(known, CREDIT_COLUMNS.names).cast(CREDIT_COLUMNS))
        return pa.Table.from_batches(blocks, CREDIT_COLUMNS).unify_dictionaries()

    def _index_landmarks(self, ids: pa.StringArray) -> tuple[list[str], NDArray[np.int32]]:
        """Return landmarks and labels of pictures of the index, where they are published."""
        path = self.directory / "index_image_to_landmark.csv"
        if not path.is_file():
            return [], np.full(len(ids), UNKNOWN, np.int32)
        known = read_list(path)
        places = pc.index_in(ids, value_set=known.ids).fill_null(len(known.ids)).to_numpy()
        labels = np.append(known.labels, np.int32(UNKNOWN))
        return in_landmark_order(known.landmarks, labels[places])


def listed_ids(path: Path) -> frozenset[str]:
    """Return the picture ids of a GLDv2 list of either form.

    Raises:
        CatalogError: The list is missing or faulty; the line is named.
    """
    return frozenset(_read_plain_list(path).ids.to_pylist())


def split_of(list_name: str) -> str:
    """Name the folder of the pictures of a list: ``train``, ``index`` or ``test``."""
    if list_name.startswith(("test", "recognition_solution", "retrieval_solution")):
        return "test"
    return "index" if list_name.startswith("index") else "train"


def locate(
    ids: pa.StringArray, landmarks: list[str], labels: NDArray[np.int32], root: Path
) -> PhotographList:
    """List pictures of a split: each lies in a tar, or else at its :func:`picture_path`.

    Raises:
        CatalogError: A tar of the split cannot be read.
    """
    members = read_members(root)
    if not len(members.keys):
        return PhotographList(ids, landmarks, labels, root)
    names = pc.replace_substring_regex(members.keys, r"^.*/", "")
    in_tars = members.files.take(pc.index_in(ids, value_set=names))
    alone = PhotographList(ids, landmarks, labels, Path()).paths()
    return PhotographList(ids, landmarks, labels, root, pc.coalesce(in_tars, alone))


def check_plain_ids(listed: Listed) -> Listed:
    """Return a list whose ids are all three or more letters, digits, _ or -: they name files.

    Raises:
        CatalogError: One is not; the list and the line are named.
    """
    fine = pc.match_substring_regex(listed.ids, _PLAIN_ID).to_numpy(zero_copy_only=False)
    listed.require(fine, "{!r} is no picture id")
    return listed


def _read_plain_list(path: Path) -> Listed:
    listed = check_plain_ids(read_list(path))
    if not len(listed.ids):
        raise CatalogError(path, "it lists no pictures")
    return listed


def _category_name(address: str) -> str:
    """Turn the address of a Wikimedia category into the name of a landmark.

    >>> _category_name("http://commons.wikimedia.org/wiki/Category:S%C3%A9_do_Porto")
    'Sé do Porto'
    """
    _, found, name = address.partition("Category:")
    name = unquote(name if found else address.rsplit("/", 1)[-1])
    return normal_form(name.replace("_", " ").strip())
