"""Read and write lists of photographs: CSV files of two forms.

::

    id,landmark_id       a line per picture; landmark_id may be absent, other columns are ignored
    landmark_id,images   a line per landmark; ids separated by spaces
"""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedder.artifacts.files import atomic_file
from embedder.errors import CatalogError
from embedder.text import normal_form
from photographs.names import normal_forms
from photographs.photograph import Photograph
from photographs.photograph_list import UNKNOWN, PhotographList, in_landmark_order

BY_LANDMARK = ("landmark_id", "images")

_MAX_FIELD_CHARACTERS = 1 << 24
"""A million picture ids; the ids of the largest landmarks exceed the default of ``csv``, 2^17."""

_BLOCK_IDS = 1 << 16
"""Ids that are text objects at a time while a list is read."""


Row = tuple[int, Sequence[str], str | None]
"""Of a list: the line in the file, ids of pictures, and the landmark that they show."""


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """The pictures of a list, in its order.

    Attributes:
        path: The list.
        ids: ``(n,)`` strings as they are written, each once.
        lines: ``(n,)`` int32, where each stands in the file.
        landmarks: Ids of landmarks, in the order of :attr:`PhotographList.landmarks`.
        labels: ``(n,)`` int32, positions in ``landmarks``; unknown in a list without landmarks.
    """

    path: Path
    ids: pa.StringArray
    lines: NDArray[np.int32]
    landmarks: list[str]
    labels: NDArray[np.int32]

    @classmethod
    def of(cls, path: Path, rows: Iterable[Row]) -> Listed:
        """Take the rows of a list as columns.

        Raises:
            CatalogError: A picture is listed twice, or its landmark is empty; the line is named.
        """
        codes: dict[str, int] = {}
        ids, blocks = list[str](), list[pa.StringArray]()
        counts, lines, labels = array("i"), array("i"), array("i")
        for line, pictures, landmark in rows:
            ids += pictures
            counts.append(len(pictures))
            lines.append(line)
            labels.append(UNKNOWN if landmark is None else codes.setdefault(landmark, len(codes)))
            if len(ids) >= _BLOCK_IDS:
                blocks.append(pa.array(ids, pa.string()))
                ids = []
        blocks.append(pa.array(ids, pa.string()))
        forms: dict[str, int] = {}
        numbers = [forms.setdefault(normal_form(name), len(forms)) for name in codes]
        renumbered = np.array([*numbers, UNKNOWN], np.int32)[np.repeat(labels, counts)]
        named = in_landmark_order([*forms], renumbered)
        listed = cls(path, pa.concat_arrays(blocks), np.repeat(lines, counts), *named)
        places = listed.ids.dictionary_encode().indices.to_numpy()
        listed.require(places == np.arange(len(places)), "picture {} is listed twice")
        if "" in forms:
            listed.require(renumbered != forms[""], "picture {} has no landmark_id")
        return listed

    def require(self, fine: NDArray[np.bool_], fault: str) -> None:
        """Refuse the list unless all of its pictures are fine.

        Args:
            fine: ``(n,)``.
            fault: What is wrong with a picture that is not, with ``{}`` for its id.

        Raises:
            CatalogError: One is not fine; the line of the first is named.
        """
        if not fine.all():
            place = int(np.argmin(fine))
            reason = fault.format(self.ids[place].as_py())
            raise CatalogError(self.path, f"line {self.lines[place]}: {reason}")


def read_list(path: Path) -> Listed:
    """Read a list of either form.

    Raises:
        CatalogError: The list is missing or faulty, or names a picture twice; the line is named.
    """
    header = read_header(path)
    rows: Iterator[Row]
    if "images" in header:
        by_landmark = read_rows(path, BY_LANDMARK)
        rows = ((line, images.split(), mark) for line, (mark, images) in by_landmark)
    elif "landmark_id" in header:
        by_picture = read_rows(path, ("id", "landmark_id"))
        rows = ((line, (picture_id,), mark) for line, (picture_id, mark) in by_picture)
    else:
        rows = ((line, fields, None) for line, fields in read_rows(path, ("id",)))
    return Listed.of(path, rows)


def pick_listed(
    path: Path, ids: pa.StringArray, files: pa.StringArray, root: Path
) -> PhotographList:
    """List the pictures of a list among those of a folder, in gallery order.

    Args:
        path: The list; its ids need not be in the normal form.
        ids: ``(n,)`` strings, the ids in the folder.
        files: ``(n,)`` strings, their files.
        root: The folder.

    Raises:
        CatalogError: The list is missing or faulty, or names another picture; the line is named.
    """
    listed = read_list(path)
    asked = normal_forms(listed.ids)
    places = pc.index_in(asked, value_set=ids)
    listed.require(places.is_valid().to_numpy(zero_copy_only=False), "there is no picture {}")
    firsts = asked.dictionary_encode().indices.to_numpy()
    listed.require(firsts == np.arange(len(firsts)), "picture {} is listed twice")
    columns = asked, listed.landmarks, listed.labels, root, files.take(places)
    return PhotographList(*columns).in_gallery_order()


def is_by_landmark(path: Path) -> bool:
    """Tell whether a list has a line per landmark; ``False`` also where it is missing."""
    return path.is_file() and "images" in read_header(path)


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the named columns of each row of a CSV file with a header.

    Empty lines are skipped and fields are stripped.

    Raises:
        CatalogError: The file is missing, has no such column, or a row is too short.
    """
    header = read_header(path)
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
    ordered = PhotographList.of(photographs).in_gallery_order()
    if by_landmark:
        groups = groupby(ordered.labeled_ids(), key=itemgetter(1))
        rows = ((mark, " ".join(name for name, _ in group)) for mark, group in groups)
        write_csv(path, BY_LANDMARK, rows)
    elif (ordered.labels != UNKNOWN).all():
        by_picture = ((name, "", landmark) for name, landmark in ordered.labeled_ids())
        write_csv(path, ("id", "url", "landmark_id"), by_picture)
    else:
        write_csv(path, ("id",), ((name,) for name, _ in ordered.labeled_ids()))


def write_csv(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    errors: str = "strict",
) -> None:
    """Write a CSV file with a header atomically; rows are written as they come.

    Args:
        path: The file.
        columns: The header.
        rows: One sequence of fields per line.
        errors: What becomes of text that is not UTF-8, such as file names: as in ``str.encode``.
    """
    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, "utf-8", errors, newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        text.detach()  # flushes it, and leaves the file open


def read_header(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file; none where it is empty."""
    first = next(read_lines(path), "")
    return [name.strip(' "\r\n') for name in first.split(",")] if first.strip() else []
