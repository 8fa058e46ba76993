"""Pictures that cannot be read: counted, listed in a report, and refused if they are too many."""

import csv
from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from embedder.errors import TooManyUnreadableError
from photographs import Photograph, write_csv

REPORT = "unreadable.csv"
"""Report of a gallery: the pictures that it lacks because they cannot be read, and why."""


class ReportLine(NamedTuple):
    """One unreadable picture: its id, its file, and the reason in words."""

    id: str
    path: str
    reason: str


class UnreadablePictures:
    """The unreadable pictures of a build, collected as they are found.

    Args:
        total: Pictures of the whole build.
        limit: The share of them that may be unreadable, in [0, 1].
        report: File that lists them if they become too many.
    """

    def __init__(self, total: int, limit: float, report: Path) -> None:
        self._total, self._limit, self._report = total, limit, report
        self._found: list[tuple[int, ReportLine]] = []

    def __len__(self) -> int:
        """Count those found so far."""
        return len(self._found)

    def add(self, place: int, photograph: Photograph, fault: str) -> None:
        """Count the unreadable picture at a place of the list.

        Raises:
            TooManyUnreadableError: There are now more than allowed; the report lists those
                found so far.
        """
        self._found.append((place, ReportLine(photograph.id, str(photograph.path), fault)))
        if len(self) / self._total > self._limit:
            raise TooManyUnreadableError(len(self), self._total, self._limit, self.write())

    def lines(self) -> list[ReportLine]:
        """Return the report in the order of the photographs."""
        return [line for _, line in sorted(self._found, key=itemgetter(0))]

    def write(self) -> Path:
        """Write the report of a build that stops, and return its path."""
        self._report.parent.mkdir(exist_ok=True)
        write_report(self._report, self.lines())
        return self._report


def write_report(path: Path, lines: Iterable[ReportLine]) -> None:
    """Write a report as CSV; only its header where every picture can be read."""
    write_csv(path, ReportLine._fields, lines, errors="backslashreplace")


def read_report(path: Path) -> list[ReportLine]:
    """Read what :func:`write_report` wrote."""
    lines = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    return [ReportLine(**line) for line in lines]
