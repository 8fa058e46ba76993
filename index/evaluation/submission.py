"""Answers as a submission: a CSV file with a row for each picture, and a report beside it."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from embedder.errors import CatalogError
from index.building.unreadable import write_report
from index.evaluation.queries import AnsweredPictures
from photographs import PhotographList, write_csv

_AMBIGUOUS = re.compile(r"[\s%]")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """Answers written to files.

    Attributes:
        path: The CSV file of answers.
        report: The CSV file that lists the unreadable queries.
        queries: Number of queries.
        unreadable: Number of them that are unreadable.
        embedded: Number of them that the network has embedded now; the vectors of others were
            kept.
    """

    path: Path
    report: Path
    queries: int
    unreadable: int
    embedded: int


def check_output(out: Path, asked: PhotographList) -> None:
    """Create the folder of a submission, before hours of embedding.

    Raises:
        CatalogError: Two queries have the same id, or ``out`` is a folder.
    """
    for picture_id, rows_of_id in Counter(asked.ids.to_pylist()).items():
        if rows_of_id > 1:
            raise CatalogError(out, f"picture {picture_id} would have two rows")
    if out.is_dir():
        raise CatalogError(out, "it is a folder; name a file for the answers")
    out.parent.mkdir(parents=True, exist_ok=True)


def write_submission(
    out: Path, column: str, rows: Iterable[tuple[str, str]], found: AnsweredPictures
) -> Submission:
    """Write ``id`` and a column of answers, and ``<out>.unreadable.csv`` beside it.

    Both files are written whole or not at all.

    Args:
        out: The file.
        column: Name of the answers.
        rows: Id and answer of each query, in order.
        found: What the answers were made of.
    """
    report = out.with_name(f"{out.stem}.unreadable.csv")
    write_report(report, found.unreadable)
    write_csv(out, ("id", column), rows, errors="surrogateescape")
    if lost := len(found.unreadable):
        _log.warning("%d queries cannot be read; %s lists them", lost, report)
    return Submission(out, report, len(found.readable), len(found.unreadable), found.embedded)


def encode_id(name: str) -> str:
    """Encode an id for a submission.

    Submissions are split at spaces, and ids that are folder names may contain some: white space
    and ``%`` are percent-encoded. Numbers stay as they are.
    """
    return _AMBIGUOUS.sub(lambda match: quote(match[0]), name)
