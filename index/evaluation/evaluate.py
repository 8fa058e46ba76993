"""Judge a gallery by labeled queries, with the official figures and the served rule.

Beside the figures of the gallery's own ranking stands a ladder: the same queries answered by
each ranking that the gallery allows, so that its choice can be seen to be right or wrong.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.building.pipeline import BATCH_PICTURES, ReadPicture
from index.evaluation.metrics import (
    DEPTH,
    Prediction,
    auroc,
    gap,
    group_by_size,
    mean_average_precision_at_100,
    top1_accuracy,
)
from index.evaluation.predict import embed_queries, name_landmark
from index.gallery.gallery import Gallery
from index.gallery.recognize import Recognition, recognize, recognize_by
from index.ranking.ranking import Ranking
from photographs import PhotographSet, Query

NEAR_DUPLICATE_COSINE = 0.99
"""A query this near to a picture of the gallery is suspected to be that picture, re-encoded."""

CLASS_SIZES = (1, 5, 20, 100)
"""The smallest number of pictures of each group of landmarks that are judged together."""

_NAMED = 5
"""How many suspects of each sort the log names."""

_BATCH_QUERIES = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rung:
    """The figures of one ranking.

    Attributes:
        ranking: Its name; ``served`` is the gallery's own.
        gap: Global average precision over all queries; ``None`` where none shows a landmark.
        landmark_only_gap: The same over the queries that show one, as some papers report it.
        top1: Share of the known queries answered rightly; ``None`` likewise.
        auroc: How well the confidence tells known from unknown queries, over those that could
            be read; ``None`` where one of the two sorts is absent.
    """

    ranking: str
    gap: float | None
    landmark_only_gap: float | None
    top1: float | None
    auroc: float | None


@dataclass(frozen=True, slots=True)
class ClassSizeGroup:
    """The known queries of landmarks with about as many pictures in the gallery.

    Attributes:
        pictures: From how many, up to below the next group's.
        queries: How many queries show such a landmark; of several the largest counts.
        top1: Share of them answered rightly.
        landmark_only_gap: Over them alone.
    """

    pictures: int
    queries: int
    top1: float
    landmark_only_gap: float


@dataclass(frozen=True, slots=True)
class ThresholdFigures:
    """What the calibrated threshold does to these queries.

    Attributes:
        confidence: The threshold.
        precision_target: The share of right answers above it that was promised.
        precision: The share found here; ``None`` where nothing is above it.
        answered: Share of all readable queries above it.
        known_answered: Share of the known ones; ``None`` where there are none.
        unknown_answered: Share of the unknown ones; ``None`` likewise.
    """

    confidence: float
    precision_target: float
    precision: float | None
    answered: float
    known_answered: float | None
    unknown_answered: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of one gallery on one set of queries.

    Attributes:
        gap: Global average precision; ``None`` where no query shows a landmark.
        landmark_only_gap: The same over the queries that show one.
        map100: Mean average precision at 100 of the gallery's pictures, over the queries whose
            landmark is in the gallery; ``None`` where there are none.
        top1: Share of the known queries answered rightly; ``None`` as for ``gap``.
        auroc: How well the confidence tells known from unknown queries, over those that could
            be read; ``None`` where one of the two sorts is absent.
        queries: All of them.
        known: Those that show a landmark.
        unknown: Those that show none.
        unreadable: Those that could not be read, and so have no answer.
        same_content: Those whose file is, byte for byte, one of the gallery.
        near_duplicates: The others whose cosine to a picture of the gallery is at least
            :data:`NEAR_DUPLICATE_COSINE`.
        ladder: The figures of each ranking that the gallery allows, its own first.
        class_sizes: The known queries by the size of their landmark; those whose landmark is
            not in the gallery are left out.
        threshold: What the calibrated threshold does; ``None`` without a calibration.
        build_id: The gallery.
        embedder: Digest of the embedder.
    """

    gap: float | None
    landmark_only_gap: float | None
    map100: float | None
    top1: float | None
    auroc: float | None
    queries: int
    known: int
    unknown: int
    unreadable: int
    same_content: int
    near_duplicates: int
    ladder: tuple[Rung, ...]
    class_sizes: tuple[ClassSizeGroup, ...]
    threshold: ThresholdFigures | None
    build_id: str
    embedder: str


@dataclass(frozen=True, slots=True)
class Judged:
    """The readable queries and what the gallery answered.

    Attributes:
        queries: ``n`` queries.
        pictures: Their files.
        vectors: ``(n, d)`` unit rows.
        answers: By the gallery's own ranking, with :data:`index.evaluation.metrics.DEPTH`
        neighbors.
    """

    queries: Sequence[Query]
    pictures: Sequence[ReadPicture]
    vectors: NDArray[np.float32]
    answers: Sequence[Recognition]


def evaluate(
    gallery: Gallery,
    embedder: Embedder,
    data: PhotographSet,
    *,
    batch_pictures: int = BATCH_PICTURES,
    readers: int = 0,
) -> tuple[Evaluation, Judged]:
    """Answer the labeled queries of a data folder and score the answers.

    Queries that are pictures of the gallery make every figure too good; they are counted and
    named in the log, and stay in.

    Args:
        gallery: Searched.
        embedder: The one that made the gallery.
        data: Holds the queries and their truths.
        batch_pictures: Pictures that the network gets at once.
        readers: Threads that read and decode; 0 for one per core.

    Returns:
        The figures, and the answers that they were made of.

    Raises:
        CatalogError: There are no labeled queries, or their list is faulty.
    """
    queries = data.queries()
    if not queries:
        raise CatalogError(data.directory, "it holds no labeled queries to judge by")
    batches = list(
        embed_queries(gallery, embedder, queries, batch_pictures=batch_pictures, readers=readers)
    )
    judged = _judge(gallery, queries, batches=[(b.pictures, b.vectors) for b in batches])
    truths = {query.id: query.landmark_ids for query in queries}
    served = _rung(gallery, "served", judged, judged.answers, truths)
    same, near = _find_duplicates(gallery, judged)
    figures = Evaluation(
        gap=served.gap,
        landmark_only_gap=served.landmark_only_gap,
        map100=_map100(gallery, judged, queries),
        top1=served.top1,
        auroc=served.auroc,
        queries=len(queries),
        known=sum(map(bool, truths.values())),
        unknown=sum(not landmarks for landmarks in truths.values()),
        unreadable=len(queries) - len(judged.queries),
        same_content=len(same),
        near_duplicates=len(near),
        ladder=(served, *_ladder(gallery, judged, truths)),
        class_sizes=tuple(_class_sizes(gallery, judged, truths)),
        threshold=_threshold(gallery, judged),
        build_id=gallery.build_id,
        embedder=embedder.digest,
    )
    return figures, judged


def rankings(gallery: Gallery) -> dict[str, Ranking]:
    """Name the rankings that a gallery allows.

    Penalties have the strength of the gallery's own ranking, or the published one, 1, where it
    has none.
    """
    own = gallery.manifest.ranking
    plain = own.model_copy(update={"rule": "top1", "gallery_penalty": 0.0, "query_penalty": 0.0})
    rungs = {"top1": plain, "vote": plain.model_copy(update={"rule": "vote"})}
    if gallery.distractors is None:
        return rungs
    b = {"gallery_penalty": own.gallery_penalty or 1.0}
    c = {"query_penalty": own.query_penalty or 1.0}
    for name, update in (("B", b), ("C", c), ("B+C", b | c)):
        rungs[f"top1 - {name}"] = plain.model_copy(update=update)
    return rungs


def _judge(
    gallery: Gallery,
    queries: Sequence[Query],
    batches: Sequence[tuple[Sequence[ReadPicture], NDArray[np.float32]]],
) -> Judged:
    """Answer the queries that can be read."""
    pictures = [picture for found, _ in batches for picture in found]
    usable = [place for place, picture in enumerate(pictures) if picture.usable]
    vectors = np.concatenate([found for _, found in batches])[usable]
    answers = [
        answer for cut in _cuts(vectors) for answer in recognize(gallery, vectors[cut], DEPTH)
    ]
    readable = [queries[place] for place in usable]
    return Judged(readable, [pictures[place] for place in usable], vectors, answers)


def _cuts(vectors: NDArray[np.float32]) -> Iterator[slice]:
    for begin in range(0, len(vectors), _BATCH_QUERIES):
        yield slice(begin, begin + _BATCH_QUERIES)


def _ladder(gallery: Gallery, judged: Judged, truths: dict[str, tuple[str, ...]]) -> Iterator[Rung]:
    for name, ranking in rankings(gallery).items():
        answers = [
            answer
            for cut in _cuts(judged.vectors)
            for answer in recognize_by(ranking, gallery, judged.vectors[cut])
        ]
        yield _rung(gallery, name, judged, answers, truths)


def _rung(
    gallery: Gallery,
    name: str,
    judged: Judged,
    answers: Sequence[Recognition],
    truths: dict[str, tuple[str, ...]],
) -> Rung:
    predictions = _predictions(gallery, judged, answers)
    known = [p for p in predictions if truths[p.query_id]]
    unknown = [p.confidence for p in predictions if not truths[p.query_id]]
    landmarks = {query: shown for query, shown in truths.items() if shown}
    return Rung(
        ranking=name,
        gap=gap(predictions, truths) if landmarks else None,
        landmark_only_gap=gap(known, landmarks) if landmarks else None,
        top1=top1_accuracy(predictions, truths) if landmarks else None,
        auroc=auroc([p.confidence for p in known], unknown) if known and unknown else None,
    )


def _predictions(
    gallery: Gallery, judged: Judged, answers: Sequence[Recognition]
) -> list[Prediction]:
    pairs = zip(judged.queries, answers, strict=True)
    return [name_landmark(gallery, query.id, answer) for query, answer in pairs]


def _map100(gallery: Gallery, judged: Judged, queries: Sequence[Query]) -> float | None:
    catalog = gallery.catalog
    codes = {catalog.landmark_id(code): code for code in range(catalog.landmark_count)}
    pictures: dict[str, list[str]] = {}

    def of(landmark_id: str) -> list[str]:
        """List the pictures of a landmark; none of one that is not in the gallery."""
        if landmark_id not in pictures:
            code = codes.get(landmark_id)
            rows = [] if code is None else np.flatnonzero(catalog.landmarks == code).tolist()
            pictures[landmark_id] = [catalog.picture_id(row) for row in rows]
        return pictures[landmark_id]

    relevant = {
        query.id: found
        for query in queries
        if (found := [picture for shown in query.landmark_ids for picture in of(shown)])
    }
    rankings = {
        query.id: [catalog.picture_id(row) for row in answer.rows.tolist()]
        for query, answer in zip(judged.queries, judged.answers, strict=True)
        if query.id in relevant
    }
    return mean_average_precision_at_100(rankings, relevant) if relevant else None


def _class_sizes(
    gallery: Gallery, judged: Judged, truths: dict[str, tuple[str, ...]]
) -> Iterator[ClassSizeGroup]:
    catalog = gallery.catalog
    counts = np.bincount(catalog.landmarks, minlength=catalog.landmark_count).tolist()
    sizes = {catalog.landmark_id(code): size for code, size in enumerate(counts)}
    predictions = _predictions(gallery, judged, judged.answers)
    for least, asked in group_by_size(truths, sizes, CLASS_SIZES).items():
        if asked:
            given = [p for p in predictions if p.query_id in asked]
            yield ClassSizeGroup(least, len(asked), top1_accuracy(given, asked), gap(given, asked))


def _threshold(gallery: Gallery, judged: Judged) -> ThresholdFigures | None:
    calibration = gallery.manifest.calibration
    if calibration is None:
        return None
    pairs = list(zip(judged.queries, judged.answers, strict=True))
    right = [
        gallery.catalog.landmark_id(answer.landmark) in query.landmark_ids
        for query, answer in pairs
        if answer.known
    ]
    return ThresholdFigures(
        confidence=calibration.threshold,
        precision_target=calibration.precision_target,
        precision=_share(right),
        answered=_share([bool(answer.known) for _, answer in pairs]) or 0.0,
        known_answered=_share([bool(a.known) for query, a in pairs if query.landmark_ids]),
        unknown_answered=_share([bool(a.known) for query, a in pairs if not query.landmark_ids]),
    )


def _share(facts: Sequence[bool]) -> float | None:
    return sum(facts) / len(facts) if facts else None


def _find_duplicates(gallery: Gallery, judged: Judged) -> tuple[list[str], list[str]]:
    """Find queries that are in the gallery: by content, and the others by cosine.

    Returns:
        The suspects of each sort, in words, in the order of the queries.
    """
    by_content: dict[bytes, list[int]] = defaultdict(list)
    for place, picture in enumerate(judged.pictures):
        by_content[picture.sha256].append(place)
    same: dict[int, int] = {}
    for row in gallery.catalog.rows_of_content(by_content.keys()):
        content = gallery.catalog.row(int(row)).sha256
        same.update((place, int(row)) for place in by_content[content] if place not in same)
    near: dict[int, int] = {}
    for place, answer in enumerate(judged.answers):
        nearest = int(answer.similarities.argmax())
        if place not in same and answer.similarities[nearest] >= NEAR_DUPLICATE_COSINE:
            near[place] = int(answer.rows[nearest])
    found = []
    for suspects, how in ((same, "the same file as"), (near, "very near to")):
        words = [
            f"{judged.queries[place].id} is {how} {gallery.catalog.picture_id(row)}"
            for place, row in sorted(suspects.items())
        ]
        if words:
            named = ", ".join(words[:_NAMED]) + (", …" if len(words) > _NAMED else "")
            _log.warning("%d queries seem to be in the gallery: %s", len(words), named)
        found.append(words)
    return found[0], found[1]
