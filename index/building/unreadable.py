"""Pictures that cannot be read: counted, named in a report, and too many of them refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from embedder.errors import TooManyUnreadableError
from index.building.journal import Shard
from photographs import write_csv


class ReportLine(NamedTuple):
    """One unreadable picture: its id, its file, and why, in words."""

    id: str
    path: str
    reason: str


class Unreadable:
    """The unreadable pictures of a build, as they are found.

    Args:
        total: Pictures of the whole build.
        limit: The share of them that may be unreadable.
        report: Where they are named if they become too many.
    """

    def __init__(self, total: int, limit: float, report: Path) -> None:
        self._total = total
        self._limit = limit
        self._report = report
        self._by_shard: dict[int, list[ReportLine]] = {}
        self.count = 0

    def add(self, number: int, shard: Shard) -> None:
        """Count the unreadable pictures of a shard.

        Raises:
            TooManyUnreadableError: There are now more than allowed; the report names those
                found so far.
        """
        lines = [
            ReportLine(photograph.id, str(photograph.path), picture.fault)
            for photograph, picture in zip(shard.photographs, shard.pictures, strict=True)
            if not picture.usable
        ]
        self._by_shard[number] = lines
        self.count += len(lines)
        if self.count / self._total > self._limit:
            raise TooManyUnreadableError(self.count, self._total, self._limit, self.write())

    def lines(self) -> Iterator[ReportLine]:
        """Yield them in the order of the list."""
        for _, lines in sorted(self._by_shard.items()):
            yield from lines

    def write(self) -> Path:
        """Write the report of a build that stops, and return its path."""
        write_report(self._report, self.lines())
        return self._report


def write_report(path: Path, lines: Iterable[ReportLine]) -> None:
    """Write a report: a csv file, of the header alone where every picture can be read."""
    write_csv(path, ReportLine._fields, lines, errors="backslashreplace")
