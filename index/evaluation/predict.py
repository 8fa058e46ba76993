"""Answer pictures with the published gallery and write the answers as a submission.

The ranking is the served one, :mod:`index.gallery.recognize`.
"""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions
from index.building.unreadable import ReportLine, write_report
from index.evaluation.metrics import Prediction
from index.evaluation.queries import answer_in_blocks, embed_queries, to_prediction
from index.gallery.gallery import Gallery
from index.gallery.recognize import recognize
from photographs import Photograph, write_csv

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
    for picture_id, rows_of_id in Counter(query.id for query in queries).items():
        if rows_of_id > 1:
            raise CatalogError(out, f"picture {picture_id} would have two rows")
    if out.is_dir():
        raise CatalogError(out, "it is a folder; name a file for the answers")
    out.parent.mkdir(parents=True, exist_ok=True)
    rows, faults, embedded = list[tuple[str, str]](), [], 0
    for batch in embed_queries(gallery, embedder, queries, options):
        answers = answer_in_blocks(partial(recognize, gallery), batch.vectors)
        embedded += batch.embedded
        for picture, answer in zip(batch.pictures, answers, strict=True):
            query = queries[len(rows)]
            given = to_prediction(gallery, query.id, answer) if picture.usable else None
            rows.append((query.id, format_answer(given)))
            if not picture.usable:
                faults.append(ReportLine(query.id, str(query.path), picture.fault))
    report = out.with_name(f"{out.stem}.unreadable.csv")
    write_report(report, faults)
    write_csv(out, ("id", "landmarks"), rows, errors="surrogateescape")
    if faults:
        _log.warning("%d queries cannot be read; %s lists them", len(faults), report)
    return Submission(out, report, len(queries), len(faults), embedded)


def format_answer(prediction: Prediction | None) -> str:
    """Format an answer for a submission; empty where there is none.

    Submissions are split at spaces, and ids that are folder names may contain some: white space
    and ``%`` in an id are percent-encoded. Numbers stay as they are.

    >>> format_answer(Prediction("a", "138982", 0.8731))
    '138982 0.873100'
    >>> format_answer(Prediction("a", "Hawa Mahal", 0.8731))
    'Hawa%20Mahal 0.873100'
    """
    if prediction is None:
        return ""
    landmark_id = _AMBIGUOUS.sub(lambda match: quote(match[0]), prediction.landmark_id)
    return f"{landmark_id} {prediction.confidence:.6f}"
