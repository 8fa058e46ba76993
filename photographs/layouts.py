"""Find the photographs of a data folder, and say which landmark each one shows.

The trainer, the archive and the demo all read the same two layouts through this module, so
that a folder means the same to each of them:

**gldv2**, the files of Google Landmarks v2 as they are published::

    train.csv                      id,url,landmark_id
    train_clean.csv                landmark_id,images    (ids separated by spaces)
    train_label_to_category.csv    landmark_id,category  (the address of a Wikimedia category)
    index.csv                      id[,url]   with index_image_to_landmark.csv: id,landmark_id
    recognition_solution_v2.1.csv  id,landmarks,Usage    (no landmark, one, or several)
    train_attribution.csv          id,url,author,license,title   (index_… alike; may be absent)
    train/a/b/c/abc….jpg           index/… and test/… alike

**folders**, one folder per landmark, whose name is the landmark's id and its name. Pictures may
lie in folders below it. A picture's id is its path below the data folder without the extension
(``Hawa Mahal/IMG_0412``), which stays the same whatever is added beside it; only pictures whose
paths differ in nothing but the extension keep theirs.

Nothing here opens a picture or asks the disk about a listed one: a list of a million rows is
read in seconds, and a missing file is found by whoever reads it.
"""

import csv
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote

from embedder.errors import CatalogError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif"})

_CLEAN_LIST, _TRAIN_LIST, _INDEX_LIST = "train_clean.csv", "train.csv", "index.csv"
_INDEX_LANDMARKS = "index_image_to_landmark.csv"
_SOLUTION = "recognition_solution_v2.1.csv"
_SPLITS = frozenset({"train", "test", "val", "valid", "validation", "index"})
_PLAIN_ID = re.compile(r"[0-9A-Za-z_-]{3,}")

_Ids = dict[str | None, list[str]]


@dataclass(frozen=True, slots=True)
class Photograph:
    """One picture of a gallery or of a list.

    Attributes:
        id: Unique within its set.
        path: Where its file is said to be; it may be missing.
        landmark_id: What it shows; ``None`` where the list does not tell.
    """

    id: str
    path: Path
    landmark_id: str | None


@dataclass(frozen=True, slots=True)
class Query:
    """One picture to recognize, with what is truly on it.

    Attributes:
        id: Unique within its set.
        path: Where its file is said to be; it may be missing.
        landmark_ids: Every landmark it shows; empty for a picture of no landmark.
    """

    id: str
    path: Path
    landmark_ids: tuple[str, ...]


class Credit(NamedTuple):
    """Whose picture it is, and how it may be used; ``None`` where that is not told.

    Attributes:
        author: In the words of the list, as its other fields are.
        license: Its name or its address.
        title: Of the picture.
        url: Where it was published.
    """

    author: str | None
    license: str | None
    title: str | None
    url: str | None


class PhotographSet(ABC):
    """The photographs of one data folder, whatever its layout.

    Attributes:
        directory: The data folder.
        layout: Which of the two layouts it has.
    """

    layout: Literal["gldv2", "folders"]

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @abstractmethod
    def gallery(self, list_name: str | None = None) -> list[Photograph]:
        """List the pictures to train on or to search in.

        Args:
            list_name: A list file of the data folder, or a path to one elsewhere. By default
                ``train_clean.csv`` if it is there, else ``train.csv``, else ``index.csv``; in the
                folders layout every picture.

        Returns:
            Sorted by ``landmark_order``, then by id; pictures without a landmark last.

        Raises:
            CatalogError: The list is missing or faulty; with its line.
        """

    @abstractmethod
    def queries(self) -> list[Query]:
        """List the labeled pictures to be judged by, sorted by id.

        Returns:
            In the gldv2 layout those of the recognition solution, none where it is absent;
            in the folders layout every picture, those outside the landmark folders
            as pictures of no landmark.

        Raises:
            CatalogError: The solution is faulty; with its line.
        """

    @abstractmethod
    def names(self, list_name: str | None = None) -> dict[str, str]:
        """Give the landmarks' names by id, as far as the data folder knows them.

        Args:
            list_name: The list whose landmarks they are; by default as for :meth:`gallery`.

        Raises:
            CatalogError: The file of names is faulty; with its line.
        """

    @abstractmethod
    def credits(self, list_name: str) -> Iterator[tuple[str, Credit]]:
        """Yield picture ids with their credits, as far as the data folder knows them.

        Args:
            list_name: The list that the pictures are of; the credits may be of others too.

        Raises:
            CatalogError: The file of credits is faulty; with its line.
        """


def open_data(directory: Path) -> PhotographSet:
    """Find out which layout a data folder has.

    Args:
        directory: The folder given as ``--data``.

    Raises:
        CatalogError: It is no folder, or holds neither layout.
    """
    _demand_folder(directory)
    lists = (_TRAIN_LIST, _CLEAN_LIST, _INDEX_LIST, _SOLUTION)
    if any((directory / name).is_file() for name in lists):
        return _Gldv2Set(directory)
    found = _FolderSet(directory)
    if not found.files:
        raise CatalogError(
            directory,
            f"it holds neither {_TRAIN_LIST} nor folders of pictures, one per landmark "
            f"({_known_formats()}){_other_formats(directory)}",
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
        CatalogError: Nothing there, two pictures of one id, or a faulty list; with its line.
    """
    if source.is_dir():
        return _with_stems(source, [source / name for name in _walk(source)])
    if not source.is_file():
        raise CatalogError(source, "there is no such folder or list")
    if source.suffix.lower() in PICTURE_SUFFIXES:
        return [Photograph(source.stem, source, None)]
    entries = _entries(source)
    if not entries:
        raise CatalogError(source, "it lists no pictures")
    if any(_is_path(entry) for entry, _ in entries):
        return _with_stems(source, [source.parent / entry for entry, _ in entries])
    root = _listed_root(source, entries[0][0])
    return [Photograph(name, _spread(root, name), landmark) for name, landmark in entries]


def listed_ids(path: Path) -> frozenset[str]:
    """Give the ids of a GLDv2 list, of whichever form.

    Raises:
        CatalogError: The list is missing or faulty; with its line.
    """
    return frozenset(name for names in _read_ids(path).values() for name in names)


def landmark_order(landmark_id: str) -> tuple[int, int, str, str]:
    """Give the key by which landmarks are sorted everywhere: numbers first, as numbers.

    Example:
        >>> sorted(["100", "Hawa Mahal", "9", "Eiffel"], key=landmark_order)
        ['9', '100', 'Eiffel', 'Hawa Mahal']
    """
    if landmark_id.isascii() and landmark_id.isdigit():
        digits = landmark_id.lstrip("0")
        return 0, len(digits), digits, landmark_id
    return 1, 0, landmark_id, landmark_id


class _Gldv2Set(PhotographSet):
    """The files of Google Landmarks v2."""

    layout = "gldv2"

    def gallery(self, list_name: str | None = None) -> list[Photograph]:
        path = self.directory / (list_name or self._default_list())
        ids = _read_ids(path)
        if set(ids) == {None}:
            ids = self._index_landmarks(ids[None])
        return _photographs(ids, self.directory / _split_of(path.name))

    def queries(self) -> list[Query]:
        path = self.directory / _SOLUTION
        if not path.is_file():
            return []
        root, found = self.directory / "test", list[Query]()
        for line, (name, landmarks) in _rows(path, ("id", "landmarks")):
            _demand_plain(path, line, name)
            shown = tuple(dict.fromkeys(landmarks.split()))
            found.append(Query(name, _spread(root, name), shown))
        _demand_unique(path, (query.id for query in found))
        return sorted(found, key=lambda query: query.id)

    def names(self, list_name: str | None = None) -> dict[str, str]:
        # Landmarks of the index are numbered apart from those of the training pictures.
        split = _split_of(Path(list_name or self._default_list()).name)
        path = self.directory / f"{split}_label_to_category.csv"
        if not path.is_file():
            return {}
        rows = _rows(path, ("landmark_id", "category"))
        return {landmark: _category_name(address) for _, (landmark, address) in rows}

    def credits(self, list_name: str) -> Iterator[tuple[str, Credit]]:
        path = self.directory / f"{_split_of(Path(list_name).name)}_attribution.csv"
        if path.is_file():
            for _, (name, *told) in _rows(path, ("id", *Credit._fields)):
                yield name, Credit(*(text or None for text in told))

    def _default_list(self) -> str:
        for name in (_CLEAN_LIST, _TRAIN_LIST, _INDEX_LIST):
            if (self.directory / name).is_file():
                return name
        raise CatalogError(
            self.directory, f"it holds no gallery: neither {_CLEAN_LIST} nor {_TRAIN_LIST}"
        )

    def _index_landmarks(self, names: list[str]) -> _Ids:
        """Give the pictures of a list without landmarks those of the index, if it has them."""
        path = self.directory / _INDEX_LANDMARKS
        known: Mapping[str, str] = {}
        if path.is_file():
            known = {name: mark for _, (name, mark) in _rows(path, ("id", "landmark_id"))}
        ids: _Ids = {}
        for name in names:
            ids.setdefault(known.get(name), []).append(name)
        return ids


class _FolderSet(PhotographSet):
    """One folder per landmark."""

    layout = "folders"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.files = _walk(directory)
        self._refuse_splits()

    def gallery(self, list_name: str | None = None) -> list[Photograph]:
        if list_name is not None:
            return self._listed(self.directory / list_name)
        loose = [name for name, landmark in self._labeled() if landmark is None]
        if loose:
            raise CatalogError(
                self.directory,
                f"{len(loose)} of its pictures lie in no landmark's folder, the first is "
                f"{loose[0]}: move them into a folder named after what they show",
            )
        pictures = [
            Photograph(query.id, query.path, query.landmark_ids[0]) for query in self.queries()
        ]
        return sorted(pictures, key=lambda p: (landmark_order(p.landmark_id or ""), p.id))

    def queries(self) -> list[Query]:
        stems = Counter(os.path.splitext(name)[0] for name in self.files)  # noqa: PTH122 (keeps "/")
        taken = set(self.files)
        found = []
        for name, landmark in self._labeled():
            stem = os.path.splitext(name)[0]  # noqa: PTH122 (a path of text, not of this system)
            shown = () if landmark is None else (landmark,)
            unique = stems[stem] == 1 and stem not in taken
            found.append(Query(stem if unique else name, self.directory / name, shown))
        return sorted(found, key=lambda query: query.id)

    def names(self, list_name: str | None = None) -> dict[str, str]:
        landmarks = {landmark for _, landmark in self._labeled() if landmark is not None}
        return {landmark: landmark for landmark in sorted(landmarks, key=landmark_order)}

    def credits(self, list_name: str) -> Iterator[tuple[str, Credit]]:
        return iter(())

    def _listed(self, path: Path) -> list[Photograph]:
        """Read a list of these pictures; the landmark is the one that the list tells."""
        paths = {query.id: query.path for query in self.queries()}
        pictures = []
        for line, name, landmark in _listed(path):
            if name not in paths:
                raise CatalogError(path, f"line {line}: there is no picture {name}")
            pictures.append(Photograph(name, paths[name], landmark))
        _demand_unique(path, (picture.id for picture in pictures))
        return sorted(pictures, key=lambda p: (landmark_order(p.landmark_id or ""), p.id))

    def _labeled(self) -> Iterator[tuple[str, str | None]]:
        for name in self.files:
            folder, slash, _ = name.partition("/")
            yield name, folder if slash else None

    def _refuse_splits(self) -> None:
        """Refuse train/ and test/ with the landmarks below: they would pass for landmarks."""
        tops = {name.partition("/")[0] for name in self.files}
        if tops and tops <= _SPLITS and all(name.count("/") > 1 for name in self.files):
            raise CatalogError(
                self.directory,
                f"its folders are parts of a data set ({', '.join(sorted(tops))}), not landmarks: "
                f"give one of them, for example {self.directory / min(tops)}",
            )


# Lists


def _read_ids(path: Path) -> _Ids:
    """Read a list of either form into picture ids by landmark, all of them unique and plain."""
    ids: _Ids = {}
    seen: set[str] = set()
    for line, name, landmark in _listed(path):
        if name in seen:
            raise CatalogError(path, f"line {line}: picture {name} is listed twice")
        _demand_plain(path, line, name)
        seen.add(name)
        ids.setdefault(landmark, []).append(name)
    if not ids:
        raise CatalogError(path, "it lists no pictures")
    return ids


def _listed(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """Yield line, picture id and landmark id of a list of either form."""
    header = _header(path)
    if "images" in header:
        yield from _listed_by_landmark(path, header)
    elif "landmark_id" in header:
        for line, (name, landmark) in _rows(path, ("id", "landmark_id")):
            if not landmark:
                raise CatalogError(path, f"line {line}: picture {name} has no landmark_id")
            yield line, name, landmark
    else:
        for line, (name,) in _rows(path, ("id",)):
            yield line, name, None


def _listed_by_landmark(path: Path, header: list[str]) -> Iterator[tuple[int, str, str | None]]:
    """Read ``landmark_id,images`` without csv: the largest landmarks pass its field limit."""
    if header[:2] != ["landmark_id", "images"]:
        raise CatalogError(path, "line 1: expected the columns landmark_id,images")
    for line, text in enumerate(_lines(path), start=1):
        if line == 1 or not text.strip():
            continue
        landmark, comma, names = text.partition(",")
        landmark = landmark.strip(' "')
        if not comma or not landmark:
            raise CatalogError(path, f"line {line}: expected a landmark_id, a comma and images")
        for name in names.strip(' "\r\n').split():
            yield line, name, landmark


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and wanted columns of a csv file with a header, but no empty lines."""
    header = _header(path)
    missing = [column for column in columns if column not in header]
    if missing:
        raise CatalogError(
            path, f"line 1: no column {', '.join(missing)}; it has {', '.join(header) or 'none'}"
        )
    places = [header.index(column) for column in columns]
    reader = csv.reader(_lines(path))
    try:
        next(reader)
        for row in reader:
            if not row:
                continue
            if len(row) < len(header):
                raise CatalogError(
                    path,
                    f"line {reader.line_num}: {len(row)} fields where {len(header)} are expected",
                )
            yield reader.line_num, [row[place].strip() for place in places]
    except csv.Error as error:
        raise CatalogError(path, f"line {reader.line_num}: {error}") from error


def _header(path: Path) -> list[str]:
    first = next(_lines(path), "")
    return [name.strip(' "\r\n') for name in first.split(",")] if first.strip() else []


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, ends included, whatever their kind."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise CatalogError(path, f"it is not text in UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise CatalogError(path, error.strerror or "it cannot be read") from error


def _entries(source: Path) -> list[tuple[str, str | None]]:
    """Read a list for prediction: ids of the GLDv2 layout, checked, or else paths."""
    listed: list[tuple[int, str, str | None]]
    if source.suffix.lower() != ".csv":
        listed = [
            (line, text.strip(), None)
            for line, text in enumerate(_lines(source), start=1)
            if text.strip()
        ]
    else:
        listed = list(_listed(source))
    entries: list[tuple[str, str | None]] = []
    for line, entry, landmark in listed:
        if not _is_path(entry):
            _demand_plain(source, line, entry)
        elif "\0" in entry:
            raise CatalogError(source, f"line {line}: a path cannot hold a zero byte")
        entries.append((entry, landmark))
    kinds = {_is_path(entry) for entry, _ in entries}
    if len(kinds) > 1:
        raise CatalogError(source, "it mixes ids and paths: list one or the other")
    _demand_unique(source, (entry for entry, _ in entries))
    return entries


def _is_path(entry: str) -> bool:
    return "/" in entry or "." in entry or os.sep in entry


def _listed_root(source: Path, first: str) -> Path:
    """Find the folder that a list of ids speaks of, by its name or else by its first picture."""
    for split in (_split_of(source.name), "test", "index", "train"):
        if _spread(source.parent / split, first).is_file():
            return source.parent / split
    named = source.parent / _split_of(source.name)
    if named.is_dir():
        return named
    raise CatalogError(
        source, f"no picture of the id {first} in test/, index/ or train/ beside the list"
    )


def _split_of(list_name: str) -> str:
    """Give the folder whose pictures a GLDv2 list names."""
    if list_name.startswith(("test", "recognition_solution", "retrieval_solution")):
        return "test"
    return "index" if list_name.startswith("index") else "train"


def _spread(root: Path, name: str) -> Path:
    return Path(f"{root}/{name[0]}/{name[1]}/{name[2]}/{name}.jpg")


def _photographs(ids: _Ids, root: Path) -> list[Photograph]:
    landmarks = sorted((mark for mark in ids if mark is not None), key=landmark_order)
    return [
        Photograph(name, _spread(root, name), landmark)
        for landmark in (*landmarks, *([None] if None in ids else []))
        for name in sorted(ids[landmark])
    ]


def _category_name(address: str) -> str:
    """Turn the address of a Wikimedia category into the name of a landmark.

    Example:
        >>> _category_name("http://commons.wikimedia.org/wiki/Category:S%C3%A9_do_Porto")
        'Sé do Porto'
    """
    _, found, name = address.partition("Category:")
    return unquote(name if found else address.rsplit("/", 1)[-1]).replace("_", " ").strip()


# Folders


def _walk(top: Path) -> list[str]:
    """List the pictures below a folder as relative paths with "/", hidden ones left out, sorted.

    Links are followed, but never back into a folder that is being walked.
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
                elif _is_picture(entry.name):
                    found.append(prefix + entry.name)

    try:
        visit(str(top), "", frozenset())
    except OSError as error:
        raise CatalogError(Path(error.filename or top), error.strerror or "unreadable") from error
    _demand_text(top, found)
    return sorted(found)


def _demand_text(top: Path, names: Iterable[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise CatalogError(top, f"the name of {name!r} is not text in UTF-8") from error


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES  # noqa: PTH122 (quick: per file)


def _with_stems(source: Path, paths: list[Path]) -> list[Photograph]:
    if not paths:
        raise CatalogError(
            source, f"it holds no pictures ({_known_formats()}){_other_formats(source)}"
        )
    first: dict[str, Path] = {}
    for path in paths:
        if path.stem in first:
            raise CatalogError(
                source, f"{first[path.stem]} and {path} would both have the id {path.stem}"
            )
        first[path.stem] = path
    return [Photograph(path.stem, path, None) for path in paths]


def _known_formats() -> str:
    return ", ".join(sorted(suffix[1:] for suffix in PICTURE_SUFFIXES))


def _other_formats(directory: Path) -> str:
    """Say which pictures of other formats are there, for who wonders why none is found."""
    others = {".heic", ".heif", ".avif", ".tif", ".tiff", ".bmp"}
    found = Counter(path.suffix.lower() for path in directory.rglob("*"))
    seen = [f"{found[suffix]} {suffix[1:]}" for suffix in sorted(others) if found[suffix]]
    return f"; it holds {', '.join(seen)}, which are not read" if seen else ""


# Demands


def _demand_folder(directory: Path) -> None:
    if not directory.is_dir():
        what = "it is a file, not a folder" if directory.exists() else "there is no such folder"
        raise CatalogError(directory, what)


def _demand_plain(path: Path, line: int, name: str) -> None:
    """Refuse ids that are not three or more letters, digits, _ or -: they become file names."""
    if not _PLAIN_ID.fullmatch(name):
        raise CatalogError(path, f"line {line}: {name!r} is no picture id")


def _demand_unique(path: Path, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise CatalogError(path, f"picture {name} is listed twice")
        seen.add(name)
