"""Answer queries with the published gallery, and write the answers as a submission.

The rule is the one that is served, :mod:`index.gallery.recognize`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.building.pipeline import BATCH_PICTURES, EmbeddedBatch, embed_files, progress_bar
from index.building.unreadable import ReportLine, write_report
from index.evaluation.metrics import Prediction
from index.gallery.gallery import Gallery
from index.gallery.recognize import Recognition, recognize
from photographs import Photograph, Query, write_csv

_AMBIGUOUS = re.compile(r"[\s%]")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """Answers written to files.

    Attributes:
        path: The csv file of answers.
        report: The csv file that names the unreadable queries.
        queries: How many there were.
        unreadable: How many of them could not be read.
    """

    path: Path
    report: Path
    queries: int
    unreadable: int


def predict(
    gallery: Gallery,
    embedder: Embedder,
    queries: Sequence[Photograph],
    out: Path,
    *,
    batch_pictures: int = BATCH_PICTURES,
    readers: int = 0,
) -> Submission:
    """Answer ``queries`` and write ``id,landmarks``, one row for each, in their order.

    ``landmarks`` is the landmark id, a space, and the confidence with six decimals; it is empty
    for a picture that cannot be read, which is named in ``<out>.unreadable.csv`` beside.
    Both files are written whole or not at all.

    Args:
        gallery: Searched.
        embedder: The one that made the gallery.
        queries: Of distinct ids.
        out: The file to write; its folder is made.
        batch_pictures: Pictures that the network gets at once.
        readers: Threads that read and decode; 0 for one per core.

    Raises:
        CatalogError: Two queries have the same id, or ``out`` is a folder.
    """
    _demand_distinct(queries, out)
    if out.is_dir():
        raise CatalogError(out, "it is a folder; name a file for the answers")
    out.parent.mkdir(parents=True, exist_ok=True)
    rows, faults = [], []
    batches = embed_queries(
        gallery, embedder, queries, batch_pictures=batch_pictures, readers=readers
    )
    answered = (
        pair
        for batch in batches
        for pair in zip(batch.pictures, recognize(gallery, batch.vectors), strict=True)
    )
    for query, (picture, answer) in zip(queries, answered, strict=True):
        given = name_landmark(gallery, query.id, answer) if picture.usable else None
        rows.append((query.id, format_answer(given)))
        if not picture.usable:
            faults.append(ReportLine(query.id, str(query.path), picture.fault))
    report = out.with_name(f"{out.stem}.unreadable.csv")
    write_report(report, faults)
    write_csv(out, ("id", "landmarks"), rows, errors="surrogateescape")
    if faults:
        _log.warning("%d queries cannot be read; %s names them", len(faults), report)
    return Submission(out, report, len(queries), len(faults))


def embed_queries(
    gallery: Gallery,
    embedder: Embedder,
    queries: Sequence[Photograph] | Sequence[Query],
    *,
    batch_pictures: int = BATCH_PICTURES,
    readers: int = 0,
) -> Iterator[EmbeddedBatch]:
    """Yield the vectors of the queries batch by batch, in order, with a progress bar on stderr.

    Args:
        gallery: Will be asked; told of in the log where it was embedded in another way.
        embedder: The one that made the gallery.
        queries: Pictures to embed.
        batch_pictures: Pictures that the network gets at once.
        readers: Threads that read and decode; 0 for one per core.
    """
    _compare_runs(gallery, embedder)
    cuts = range(0, len(queries), batch_pictures)
    batches = ([query.path for query in queries[cut : cut + batch_pictures]] for cut in cuts)
    with progress_bar(len(queries), what="embed queries") as bar:
        for batch in embed_files(batches, embedder, readers=readers):
            yield batch
            bar.update(len(batch.pictures))


def name_landmark(gallery: Gallery, query_id: str, answer: Recognition) -> Prediction:
    """Put an answer into the words of the catalog."""
    return Prediction(query_id, gallery.catalog.landmark_id(answer.landmark), answer.confidence)


def format_answer(prediction: Prediction | None) -> str:
    """Write an answer as a submission has it; empty where there is none.

    Judges take a submission apart at its spaces, and ids that are folder names may hold some:
    white space and ``%`` in an id are percent-encoded. Numbers stay as they are.

    >>> format_answer(Prediction("a", "138982", 0.8731))
    '138982 0.873100'
    >>> format_answer(Prediction("a", "Hawa Mahal", 0.8731))
    'Hawa%20Mahal 0.873100'
    """
    if prediction is None:
        return ""
    landmark_id = _AMBIGUOUS.sub(lambda found: quote(found[0]), prediction.landmark_id)
    return f"{landmark_id} {prediction.confidence:.6f}"


def _compare_runs(gallery: Gallery, embedder: Embedder) -> None:
    made = (gallery.manifest.embedder.runtime, gallery.manifest.embedder.precision)
    if made != (embedder.runtime, embedder.precision):
        _log.warning(
            "the gallery was embedded with %s in %s, the queries with %s in %s",
            *made,
            embedder.runtime,
            embedder.precision,
        )


def _demand_distinct(queries: Sequence[Photograph], out: Path) -> None:
    seen: set[str] = set()
    for query in queries:
        if query.id in seen:
            raise CatalogError(out, f"picture {query.id} would have two rows")
        seen.add(query.id)
