"""Answer pictures with the published gallery and write the answers as a submission.

The ranking is the served one, :mod:`index.gallery.recognize`.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions
from index.building.unreadable import write_report
from index.evaluation.metrics import Prediction
from index.evaluation.queries import AnsweredPictures, answer_pictures
from index.gallery.gallery import Gallery
from photographs import Photograph, PhotographList, write_csv

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


def predict(
    gallery: Gallery,
    embedder: Embedder,
    queries: Sequence[Photograph],
    out: Path,
    options: PipelineOptions = DEFAULT_OPTIONS,
) -> Submission:
    """Answer ``queries`` and write ``id,landmarks``, one row for each, in their order.

    ``landmarks`` is the landmark id, a space, and the confidence with six decimals; it is empty
    for a picture that cannot be read, which ``<out>.unreadable.csv`` beside it lists. Both files
    are written whole or not at all.

    The folder of ``out`` is created.

    Raises:
        CatalogError: Two queries have the same id, or ``out`` is a folder.
    """
    asked = PhotographList.of(queries)
    check_output(out, asked)
    found = answer_pictures(gallery, embedder, asked, options)
    report = report_path(out)
    write_report(report, found.unreadable)
    write_csv(out, ("id", "landmarks"), _rows(gallery, asked, found), errors="surrogateescape")
    if lost := len(found.unreadable):
        _log.warning("%d queries cannot be read; %s lists them", lost, report)
    return Submission(out, report, len(asked), len(found.unreadable), found.embedded)


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


def report_path(out: Path) -> Path:
    """Name the file that lists the unreadable queries of a submission."""
    return out.with_name(f"{out.stem}.unreadable.csv")


def _rows(
    gallery: Gallery, asked: PhotographList, found: AnsweredPictures
) -> Iterator[tuple[str, str]]:
    landmark_id, answers = gallery.catalog.landmark_id, found.answers
    ids = (picture_id for picture_id, _ in asked.labeled_ids())
    columns = zip(
        ids, found.readable, answers.landmarks.tolist(), answers.confidences.tolist(), strict=True
    )
    for query, readable, landmark, confidence in columns:
        prediction = Prediction(query, landmark_id(landmark), confidence) if readable else None
        yield query, format_answer(prediction)


def format_answer(prediction: Prediction | None) -> str:
    """Format an answer for a submission; empty where there is none.

    >>> format_answer(Prediction("a", "138982", 0.8731))
    '138982 0.873100'
    >>> format_answer(Prediction("a", "Hawa Mahal", 0.8731))
    'Hawa%20Mahal 0.873100'
    """
    if prediction is None:
        return ""
    return f"{encode_id(prediction.landmark_id)} {prediction.confidence:.6f}"


def encode_id(name: str) -> str:
    """Encode an id for a submission.

    Submissions are split at spaces, and ids that are folder names may contain some: white space
    and ``%`` are percent-encoded. Numbers stay as they are.
    """
    return _AMBIGUOUS.sub(lambda match: quote(match[0]), name)
