"""Judge a gallery by labeled queries, with the official figures and the served rule."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from embedder.photographs import PhotographSet, Query
from index.gallery import Gallery
from index.metrics import auroc, gap, top1_accuracy
from index.predict import Answer, answer
from index.stream import BATCH_PICTURES

NEAR_DUPLICATE_COSINE = 0.99
"""A query this near to a picture of the gallery is suspected to be that picture, re-encoded."""

_NAMED = 5
"""How many suspects of each sort the log names."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of one gallery on one set of queries.

    Attributes:
        gap: Global average precision; ``None`` where no query shows a landmark.
        top1: Share of the known queries answered rightly; ``None`` likewise.
        auroc: How well the cosine tells known from unknown queries, over those that could be
            read; ``None`` where one of the two sorts is absent.
        queries: All of them.
        known: Those that show a landmark.
        unknown: Those that show none.
        unreadable: Those that could not be read, and so have no answer.
        same_content: Those whose file is, byte for byte, one of the gallery.
        near_duplicates: The others whose cosine to a picture of the gallery is at least
            :data:`NEAR_DUPLICATE_COSINE`.
        build_id: The gallery.
        embedder: Digest of the embedder.
    """

    gap: float | None
    top1: float | None
    auroc: float | None
    queries: int
    known: int
    unknown: int
    unreadable: int
    same_content: int
    near_duplicates: int
    build_id: str
    embedder: str


def evaluate(
    gallery: Gallery,
    embedder: Embedder,
    data: PhotographSet,
    *,
    batch_pictures: int = BATCH_PICTURES,
    readers: int = 0,
) -> Evaluation:
    """Answer the labeled queries of a data folder and score the answers.

    Queries that are pictures of the gallery make every figure too good; they are counted and
    named in the log, and stay in.

    Args:
        gallery: Searched.
        embedder: The one that made the gallery.
        data: Holds the queries and their truths.
        batch_pictures: Pictures that the network gets at once.
        readers: Threads that read and decode; 0 for one per core.

    Raises:
        CatalogError: There are no labeled queries, or their list is faulty.
    """
    queries = data.queries()
    if not queries:
        raise CatalogError(data.directory, "it holds no labeled queries to judge by")
    answers = list(
        answer(gallery, embedder, queries, batch_pictures=batch_pictures, readers=readers)
    )
    truths = {query.id: query.landmark_ids for query in queries}
    predictions = [given.prediction for given in answers if given.prediction is not None]
    known = [p.confidence for p in predictions if truths[p.query_id]]
    unknown = [p.confidence for p in predictions if not truths[p.query_id]]
    has_known = any(truths.values())
    same, near = _find_duplicates(gallery, queries, answers)
    return Evaluation(
        gap=gap(predictions, truths) if has_known else None,
        top1=top1_accuracy(predictions, truths) if has_known else None,
        auroc=auroc(known, unknown) if known and unknown else None,
        queries=len(queries),
        known=sum(map(bool, truths.values())),
        unknown=sum(not landmarks for landmarks in truths.values()),
        unreadable=len(answers) - len(predictions),
        same_content=len(same),
        near_duplicates=len(near),
        build_id=gallery.build_id,
        embedder=embedder.digest,
    )


def _find_duplicates(
    gallery: Gallery, queries: Sequence[Query], answers: Sequence[Answer]
) -> tuple[list[str], list[str]]:
    """Find queries that are in the gallery: by content, and the others by cosine.

    Returns:
        The suspects of each sort, in words, in the order of the queries.
    """
    by_content: dict[bytes, list[int]] = defaultdict(list)
    for place, given in enumerate(answers):
        if given.prediction is not None:
            by_content[given.picture.sha256].append(place)
    same: dict[int, int] = {}
    for row in gallery.catalog.rows_of_content(by_content.keys()):
        content = gallery.catalog.row(int(row)).sha256
        same.update((place, int(row)) for place in by_content[content] if place not in same)
    near = {
        place: given.row
        for place, given in enumerate(answers)
        if given.prediction is not None
        and place not in same
        and given.prediction.confidence >= NEAR_DUPLICATE_COSINE
    }
    found = []
    for suspects, how in ((same, "the same file as"), (near, "very near to")):
        words = [
            f"{queries[place].id} is {how} {gallery.catalog.picture_id(row)}"
            for place, row in sorted(suspects.items())
        ]
        if words:
            named = ", ".join(words[:_NAMED]) + (", …" if len(words) > _NAMED else "")
            _log.warning("%d queries seem to be in the gallery: %s", len(words), named)
        found.append(words)
    return found[0], found[1]
