"""Pictures that cannot be read: counted, listed in a report, and refused if they are too many."""

import csv
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedder.errors import TooManyUnreadableError
from embedder.picture_files import find_file, open_file
from index.building.embedded import ReadPicture
from index.building.sources import Sources
from photographs import Photograph, write_csv

REPORT = "unreadable.csv"
"""Report of a gallery: the pictures that it lacks because they cannot be read, and why; and what
is passed over in its data folders."""

_UNKNOWN = -1


class ReportLine(NamedTuple):
    """One unreadable picture: its id, its file, and the reason in words."""

    id: str
    path: str
    reason: str


class LeftOut(NamedTuple):
    """A picture that a gallery lacks: a report line, and what tells whether it has changed since.

    Attributes:
        id: Its id in the gallery; empty for a file or folder that is passed over.
        path: Its file.
        reason: Why it cannot be read, in words.
        source: Its list, as an index into the manifest's ``sources``.
        bytes: Size of the file; -1 where it could not be opened.
        mtime_ns: Modification time of the file; likewise.
    """

    id: str
    path: str
    reason: str
    source: int = _UNKNOWN
    bytes: int = _UNKNOWN
    mtime_ns: int = _UNKNOWN

    def still_holds(self) -> bool:
        """Look whether the file is as it was, or still cannot be opened."""
        if self.bytes != _UNKNOWN:
            return find_file(Path(self.path)) == (self.bytes, self.mtime_ns)
        try:
            with open_file(Path(self.path)):
                return False
        except OSError:
            return self.source != _UNKNOWN


class UnreadablePictures:
    """The unreadable pictures of a build, collected as they are found.

    Args:
        origins: ``(n,)``, the source of each picture that is read.
        limit: The share of them that may be unreadable, in [0, 1].
        report: File that lists them if they become too many.
    """

    def __init__(self, origins: NDArray[np.int32], limit: float, report: Path) -> None:
        self._origins, self._limit, self._report = origins, limit, report
        self._found: list[LeftOut] = []

    def __len__(self) -> int:
        """Count those found so far."""
        return len(self._found)

    def add(self, place: int, photograph: Photograph, picture: ReadPicture) -> None:
        """Count the unreadable picture at a place of those that are read.

        Raises:
            TooManyUnreadableError: There are now more than allowed; the report lists those
                found so far.
        """
        what = photograph.id, str(photograph.path), picture.fault
        state = picture.bytes, picture.mtime_ns
        self._found.append(LeftOut(*what, int(self._origins[place]), *state))
        total = len(self._origins)
        if len(self) / total > self._limit:
            raise TooManyUnreadableError(len(self), total, self._limit, self.write())

    def lines(self) -> list[LeftOut]:
        """Return the report, sorted by id."""
        return sorted(self._found)

    def write(self) -> Path:
        """Write the report of a build that stops, and return its path."""
        self._report.parent.mkdir(exist_ok=True)
        write_left_out(self._report, self.lines())
        return self._report


def count_unreadable(lines: Iterable[LeftOut]) -> int:
    """Count the pictures of a report that cannot be read; what is passed over is not counted."""
    return sum(bool(line.id) for line in lines)


def list_passed_over(sources: Sources) -> list[LeftOut]:
    """Return the report of what is passed over in the folders of sources."""
    return [
        LeftOut("", f"{source.reference.data}/{path}", reason, place)
        for place, source in enumerate(sources.members)
        for path, reason in source.passed_over.reasons()
    ]


def write_report(path: Path, lines: Iterable[ReportLine]) -> None:
    """Write a report of queries as CSV; only its header where every picture can be read."""
    write_csv(path, ReportLine._fields, lines, errors="backslashreplace")


def write_left_out(path: Path, lines: Iterable[LeftOut]) -> None:
    """Write the report of a gallery likewise."""
    write_csv(path, LeftOut._fields, lines, errors="backslashreplace")


def read_left_out(path: Path) -> list[LeftOut]:
    """Read what :func:`write_left_out` wrote; earlier versions knew neither source nor state."""
    lines = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    found = []
    for line in lines:
        numbers = (int(line.get(name) or _UNKNOWN) for name in LeftOut._fields[3:])
        found.append(LeftOut(line["id"], line["path"], line["reason"], *numbers))
    return found


def renumber(lines: Iterable[LeftOut], sources: Sequence[int]) -> list[LeftOut]:
    """Return the lines of some of the sources, which get the numbers from 0."""
    numbers = {source: number for number, source in enumerate(sources)} | {_UNKNOWN: _UNKNOWN}
    return [line._replace(source=numbers[line.source]) for line in lines if line.source in numbers]


def set_aside(
    sources: Sources, lines: Iterable[LeftOut], trusted: Collection[int] = ()
) -> tuple[Sources, list[LeftOut]]:
    """Leave out pictures that are known to be unreadable and have not changed since.

    Args:
        sources: The photographs of the next build.
        lines: Report of the gallery.
        trusted: Indices of the sources whose files are not looked at, and whose photographs are
            those that the gallery has.

    Returns:
        The sources without them, and what the report says of them.
    """
    lines = list(lines)
    kept = [line for line in lines if line.source in trusted]
    looked_at = [line for line in lines if line.source not in trusted]
    ids = pa.array([line.id for line in looked_at], pa.string())
    places = pc.index_in(ids, value_set=sources.photographs.ids).to_pylist()
    listed = np.ones(len(sources), np.bool_)
    for line, place in zip(looked_at, places, strict=True):
        if place is not None and sources.origins[place] == line.source and line.still_holds():
            listed[place] = False
            kept.append(line)
    left = replace(
        sources, photographs=sources.photographs.where(listed), origins=sources.origins[listed]
    )
    return left, kept
