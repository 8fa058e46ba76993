"""The gldv2 layout: the files of Google Landmarks v2 as they are published.

::

    train.csv                      id,url,landmark_id
    train_clean.csv                landmark_id,images    (ids separated by spaces)
    train_label_to_category.csv    landmark_id,category  (the address of a Wikimedia category)
    index.csv                      id[,url]   with index_image_to_landmark.csv: id,landmark_id
    recognition_solution_v2.1.csv  id,landmarks,Usage    (no landmark, one, or several)
    train_attribution.csv          id,url,author,license,title   (index_… alike; may be absent)
    train/a/b/c/abc….jpg           index/… and test/… alike

Nothing here opens a picture or looks for its file: a list of a million rows is read in seconds,
and whoever reads a picture finds it missing.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from embedder.errors import CatalogError
from photographs.lists import Entry, distinct, read_list, read_rows
from photographs.names import normal_form
from photographs.photograph import Credit, Photograph, PhotographSet, Query, in_gallery_order

TRAIN_LIST, CLEAN_LIST, INDEX_LIST = "train.csv", "train_clean.csv", "index.csv"
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

_WEB_PAGE = re.compile(r"https?://\S+\Z", re.IGNORECASE)
_PLAIN_ID = re.compile(r"[0-9A-Za-z_-]{3,}")


class Gldv2Set(PhotographSet):
    """A data folder in the layout of Google Landmarks v2."""

    layout = "gldv2"

    def default_list(self) -> str:
        """Return the first of :data:`GALLERY_LISTS` that is there."""
        for name in GALLERY_LISTS:
            if (self.directory / name).is_file():
                return name
        raise CatalogError(self.directory, f"it holds none of {', '.join(GALLERY_LISTS)}")

    def gallery(self, list_name: str | None = None) -> list[Photograph]:
        """List the photographs of a list; of the index, landmarks come from their own file."""
        path = self.directory / (list_name or self.default_list())
        entries = _read_plain_list(path)
        if all(entry.landmark_id is None for entry in entries):
            landmarks = self._index_landmarks()
            entries = [entry._replace(landmark_id=landmarks.get(entry.id)) for entry in entries]
        root = self.directory / split_of(path.name)
        return in_gallery_order(
            Photograph(entry.id, picture_path(root, entry.id), entry.landmark_id)
            for entry in entries
        )

    def queries(self) -> list[Query]:
        """List the pictures of the recognition solution."""
        path, root = self.directory / SOLUTION, self.directory / "test"
        if not path.is_file():
            return []
        rows = (Entry(line, *row) for line, row in read_rows(path, ("id", "landmarks")))
        queries = []
        for line, picture_id, landmarks in distinct(path, rows):
            check_plain_id(path, line, picture_id)
            shown = tuple(dict.fromkeys((landmarks or "").split()))
            queries.append(Query(picture_id, picture_path(root, picture_id), shown))
        return sorted(queries, key=lambda query: query.id)

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

    def credits(self, list_name: str) -> Iterator[tuple[str, Credit]]:
        """Yield the credits of the list's split."""
        path = self.directory / f"{split_of(Path(list_name).name)}_attribution.csv"
        if path.is_file():
            for _, (picture_id, *fields) in read_rows(path, ("id", *Credit._fields)):
                yield picture_id, Credit(*(field or None for field in fields))

    def _index_landmarks(self) -> dict[str, str]:
        """Read the landmarks of the pictures of the index, where they are published."""
        path = self.directory / "index_image_to_landmark.csv"
        if not path.is_file():
            return {}
        rows = read_rows(path, ("id", "landmark_id"))
        return {picture_id: normal_form(landmark) for _, (picture_id, landmark) in rows}


def listed_ids(path: Path) -> frozenset[str]:
    """Return the picture ids of a GLDv2 list of either form.

    Raises:
        CatalogError: The list is missing or faulty; the line is named.
    """
    return frozenset(entry.id for entry in _read_plain_list(path))


def split_of(list_name: str) -> str:
    """Name the folder of the pictures of a list: ``train``, ``index`` or ``test``."""
    if list_name.startswith(("test", "recognition_solution", "retrieval_solution")):
        return "test"
    return "index" if list_name.startswith("index") else "train"


def picture_path(root: Path, picture_id: str) -> Path:
    """Return the file of a picture below the folder of its split."""
    return Path(f"{root}/{picture_id[0]}/{picture_id[1]}/{picture_id[2]}/{picture_id}.jpg")


def check_plain_id(path: Path, line: int, picture_id: str) -> None:
    """Refuse an id that is not three or more letters, digits, _ or -: it becomes a file name.

    Raises:
        CatalogError: It is not; the list ``path`` and the line are named.
    """
    if not _PLAIN_ID.fullmatch(picture_id):
        raise CatalogError(path, f"line {line}: {picture_id!r} is no picture id")


def _read_plain_list(path: Path) -> list[Entry]:
    entries = []
    for entry in read_list(path):
        check_plain_id(path, entry.line, entry.id)
        entries.append(entry)
    if not entries:
        raise CatalogError(path, "it lists no pictures")
    return entries


def _category_name(address: str) -> str:
    """Turn the address of a Wikimedia category into the name of a landmark.

    >>> _category_name("http://commons.wikimedia.org/wiki/Category:S%C3%A9_do_Porto")
    'Sé do Porto'
    """
    _, found, name = address.partition("Category:")
    name = unquote(name if found else address.rsplit("/", 1)[-1])
    return normal_form(name.replace("_", " ").strip())
