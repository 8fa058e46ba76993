"""Read and write lists of photographs: CSV files of two forms.

::

    id,landmark_id       a line per picture; landmark_id may be absent, other columns are ignored
    landmark_id,images   a line per landmark; ids separated by spaces
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from embedder.artifacts.files import write_atomic
from embedder.errors import CatalogError
from photographs.names import normal_form
from photographs.photograph import Photograph, in_gallery_order

BY_LANDMARK = ("landmark_id", "images")

_MAX_FIELD_CHARACTERS = 1 << 24
"""A million picture ids; the ids of the largest landmarks exceed the default of ``csv``, 2^17."""


class Entry(NamedTuple):
    """One picture of a list.

    Attributes:
        line: Where it stands in the file.
        id: The picture.
        landmark_id: The landmark it shows; ``None`` in a list without landmarks.
    """

    line: int
    id: str
    landmark_id: str | None


def read_list(path: Path) -> Iterator[Entry]:
    """Yield the pictures of a list of either form, in its order.

    Raises:
        CatalogError: The list is missing or faulty, or names a picture twice; the line is named.
    """
    header = _read_header(path)
    if "images" in header:
        entries = (
            Entry(line, picture_id, landmark_id)
            for line, (landmark_id, images) in read_rows(path, BY_LANDMARK)
            for picture_id in images.split()
        )
    elif "landmark_id" in header:
        entries = (Entry(line, *row) for line, row in read_rows(path, ("id", "landmark_id")))
    else:
        entries = (Entry(line, row[0], None) for line, row in read_rows(path, ("id",)))
    for line, picture_id, landmark_id in distinct(path, entries):
        if landmark_id == "":
            raise CatalogError(path, f"line {line}: picture {picture_id} has no landmark_id")
        yield Entry(line, picture_id, None if landmark_id is None else normal_form(landmark_id))


def is_by_landmark(path: Path) -> bool:
    """Tell whether a list has a line per landmark; ``False`` also where it is missing."""
    return path.is_file() and "images" in _read_header(path)


def distinct(path: Path, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries of the list ``path``.

    Raises:
        CatalogError: Two of them have the same id.
    """
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise CatalogError(path, f"line {entry.line}: picture {entry.id} is listed twice")
        seen.add(entry.id)
        yield entry


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the named columns of each row of a CSV file with a header.

    Empty lines are skipped and fields are stripped.

    Raises:
        CatalogError: The file is missing, has no such column, or a row is too short.
    """
    header = _read_header(path)
    if missing := [column for column in columns if column not in header]:
        raise CatalogError(
            path, f"line 1: no column {', '.join(missing)}; it has {', '.join(header) or 'none'}"
        )
    places = [header.index(column) for column in columns]
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_CHARACTERS))
    reader = csv.reader(read_lines(path))
    try:
        next(reader)
        for row in filter(None, reader):
            if len(row) < len(header):
                raise CatalogError(
                    path,
                    f"line {reader.line_num}: {len(row)} fields where {len(header)} are expected",
                )
            yield reader.line_num, [row[place].strip() for place in places]
    except csv.Error as error:
        raise CatalogError(path, f"line {reader.line_num}: {error}") from error


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file with their line ends, of whatever kind.

    Raises:
        CatalogError: It cannot be read, or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise CatalogError(path, f"it is not text in UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise CatalogError(path, error.strerror or "it cannot be read") from error


def write_list(path: Path, photographs: Iterable[Photograph], *, by_landmark: bool) -> None:
    """Write a list of photographs, in gallery order.

    Args:
        path: The file.
        photographs: With landmarks where ``by_landmark``.
        by_landmark: Write a line per landmark; else a line per picture, with the columns
            ``id,url,landmark_id`` of GLDv2, or ``id`` alone where a landmark is unknown.
    """
    photographs = in_gallery_order(photographs)
    if by_landmark:
        ids = defaultdict[str | None, list[str]](list)
        for photograph in photographs:
            ids[photograph.landmark_id].append(photograph.id)
        write_csv(path, BY_LANDMARK, ((mark, " ".join(names)) for mark, names in ids.items()))
    elif all(photograph.landmark_id is not None for photograph in photographs):
        rows = ((photograph.id, "", photograph.landmark_id) for photograph in photographs)
        write_csv(path, ("id", "url", "landmark_id"), rows)
    else:
        write_csv(path, ("id",), ((photograph.id,) for photograph in photographs))


def write_csv(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    errors: str = "strict",
) -> None:
    """Write a CSV file with a header atomically.

    Args:
        path: The file.
        columns: The header.
        rows: One sequence of fields per line.
        errors: What becomes of text that is not UTF-8, such as file names: as in ``str.encode``.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode("utf-8", errors))


def _read_header(path: Path) -> list[str]:
    first = next(read_lines(path), "")
    return [name.strip(' "\r\n') for name in first.split(",")] if first.strip() else []
