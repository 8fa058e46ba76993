"""Evaluate a gallery by labeled queries, with the official metrics and the served ranking.

Beside the metrics of the gallery's own ranking stands a ladder: the same queries answered by each
ranking that the gallery allows, which shows whether its choice is right.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.building.embedded import EmbeddedBatch
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions
from index.evaluation import metrics
from index.evaluation.queries import (
    AnsweredQueries,
    answer_in_blocks,
    count_duplicates,
    embed_queries,
    to_prediction,
)
from index.gallery.catalog import Catalog
from index.gallery.gallery import Gallery
from index.gallery.recognize import Recognition, recognize, recognize_by
from index.ranking.ranking import Ranking
from photographs import PhotographSet

CLASS_SIZES = (1, 5, 20, 100)
"""The smallest number of pictures of each group of landmarks that have metrics of their own."""

_Truths = Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The metrics of answers to queries.

    Attributes:
        gap: Global average precision over all queries; ``None`` where none shows a landmark.
        landmark_only_gap: The same over the queries that show one, as some papers report it.
        top1: Share of the known queries answered correctly; ``None`` as for ``gap``.
        auroc: How well the confidence tells known from unknown queries, over the readable ones;
            ``None`` where there are only known or only unknown ones.
    """

    gap: float | None
    landmark_only_gap: float | None
    top1: float | None
    auroc: float | None


@dataclass(frozen=True, kw_only=True)
class RankingMetrics(Scores):
    """The metrics of one ranking; ``served`` is the gallery's own."""

    ranking: str


@dataclass(frozen=True, slots=True)
class ClassSizeMetrics:
    """The known queries of landmarks with about as many pictures in the gallery.

    Attributes:
        pictures: Fewest pictures of a landmark of the group; the next group begins above.
        queries: Queries that show such a landmark; of several the largest counts.
        top1: Share of them answered correctly.
        landmark_only_gap: Over them alone.
    """

    pictures: int
    queries: int
    top1: float
    landmark_only_gap: float


@dataclass(frozen=True, slots=True)
class ThresholdMetrics:
    """The effect of the calibrated threshold on these queries.

    Attributes:
        confidence: The threshold.
        precision_target: The share of correct answers above it that calibration aimed at.
        precision: The share found here; ``None`` where nothing is above it.
        answered: Share of all readable queries above it.
        known_answered: Share of the known ones; ``None`` where there are none.
        unknown_answered: Share of the unknown ones; ``None`` where there are none.
    """

    confidence: float
    precision_target: float
    precision: float | None
    answered: float
    known_answered: float | None
    unknown_answered: float | None


@dataclass(frozen=True, kw_only=True)
class Evaluation(Scores):
    """The metrics of one gallery on one set of queries.

    Attributes:
        map100: Mean average precision at 100 of the gallery's pictures, over the queries whose
            landmark is in the gallery; ``None`` where there are none.
        queries: Number of queries.
        known: Those that show a landmark.
        unknown: Those that show none.
        unreadable: Those that could not be read, and so have no answer.
        embedded: Those that the network has embedded now; the vectors of others were kept.
        same_content: Those whose file is, byte for byte, one of the gallery.
        near_duplicates: Others that are nearly a picture of the gallery; see
            :data:`index.evaluation.queries.NEAR_DUPLICATE_COSINE`.
        ladder: The metrics of each ranking that the gallery allows, its own first.
        class_sizes: The known queries by the size of their landmark; without those whose
            landmark is not in the gallery.
        threshold: The effect of the calibrated threshold; ``None`` without a calibration.
        build_id: The gallery.
        embedder: Digest of the embedder.
    """

    map100: float | None
    queries: int
    known: int
    unknown: int
    unreadable: int
    embedded: int
    same_content: int
    near_duplicates: int
    ladder: tuple[RankingMetrics, ...]
    class_sizes: tuple[ClassSizeMetrics, ...]
    threshold: ThresholdMetrics | None
    build_id: str
    embedder: str


def evaluate(
    gallery: Gallery,
    embedder: Embedder,
    data: PhotographSet,
    options: PipelineOptions = DEFAULT_OPTIONS,
) -> tuple[Evaluation, AnsweredQueries]:
    """Answer the labeled queries of a data folder and compute metrics.

    Queries that are pictures of the gallery make every metric too good; they are counted and
    named in the log, and stay in.

    Returns:
        The metrics, and the answers that they were computed from.

    Raises:
        CatalogError: There are no labeled queries, or their list is faulty.
    """
    queries = data.queries()
    if not queries:
        raise CatalogError(data.directory, "it holds no labeled queries to evaluate by")
    batch = EmbeddedBatch.join(embed_queries(gallery, embedder, queries, options))
    readable = batch.usable()
    vectors = batch.vectors[readable]
    answered = AnsweredQueries(
        [queries[place] for place in readable],
        [batch.pictures[place] for place in readable],
        vectors,
        answer_in_blocks(partial(recognize, gallery, k=metrics.DEPTH), vectors, "answer"),
    )
    truths = {query.id: query.landmark_ids for query in queries}
    same, near = count_duplicates(gallery, answered)
    predictions = _predictions(gallery, answered, answered.answers)
    served = _scores(predictions, truths)
    rows = _rows_by_landmark(gallery.catalog)
    evaluation = Evaluation(
        **served,
        map100=_map100(answered, truths, rows),
        queries=len(queries),
        known=sum(map(bool, truths.values())),
        unknown=sum(not landmarks for landmarks in truths.values()),
        unreadable=len(queries) - len(readable),
        embedded=batch.embedded,
        same_content=same,
        near_duplicates=near,
        ladder=(
            RankingMetrics(ranking="served", **served),
            *_ladder(gallery, answered, truths),
        ),
        class_sizes=tuple(_class_sizes(predictions, truths, rows)),
        threshold=_threshold_metrics(gallery, answered),
        build_id=gallery.build_id,
        embedder=embedder.digest,
    )
    return evaluation, answered


def rankings(gallery: Gallery) -> dict[str, Ranking]:
    """Name the rankings that a gallery allows.

    Penalties have the strength of the gallery's own ranking, or the published one, 1, where it
    has none.
    """
    own = gallery.manifest.ranking
    plain = own.model_copy(update={"rule": "top1", "gallery_penalty": 0.0, "query_penalty": 0.0})
    ladder = {"top1": plain, "vote": plain.model_copy(update={"rule": "vote"})}
    if gallery.distractors is None:
        return ladder
    b = {"gallery_penalty": own.gallery_penalty or 1.0}
    c = {"query_penalty": own.query_penalty or 1.0}
    for name, update in (("B", b), ("C", c), ("B+C", b | c)):
        ladder[f"top1 - {name}"] = plain.model_copy(update=update)
    return ladder


def _predictions(
    gallery: Gallery, answered: AnsweredQueries, answers: Sequence[Recognition]
) -> list[metrics.Prediction]:
    pairs = zip(answered.queries, answers, strict=True)
    return [to_prediction(gallery, query.id, answer) for query, answer in pairs]


def _ladder(
    gallery: Gallery, answered: AnsweredQueries, truths: _Truths
) -> Iterator[RankingMetrics]:
    for name, ranking in rankings(gallery).items():
        answer = partial(recognize_by, ranking, gallery)
        answers = answer_in_blocks(answer, answered.vectors, f"answer by {name}")
        scores = _scores(_predictions(gallery, answered, answers), truths)
        yield RankingMetrics(ranking=name, **scores)


def _scores(predictions: Sequence[metrics.Prediction], truths: _Truths) -> dict[str, Any]:
    """Return the fields of :class:`Scores`."""
    known = [p for p in predictions if truths[p.query_id]]
    unknown = [p.confidence for p in predictions if not truths[p.query_id]]
    shown = {query: landmarks for query, landmarks in truths.items() if landmarks}
    return {
        "gap": metrics.gap(predictions, truths) if shown else None,
        "landmark_only_gap": metrics.gap(known, shown) if shown else None,
        "top1": metrics.top1_accuracy(predictions, truths) if shown else None,
        "auroc": metrics.auroc([p.confidence for p in known], unknown)
        if known and unknown
        else None,
    }


def _rows_by_landmark(catalog: Catalog) -> dict[str, range]:
    """Return the rows of each landmark, by its id; they are consecutive."""
    bounds = np.searchsorted(catalog.landmarks, np.arange(catalog.landmark_count + 1)).tolist()
    pairs = enumerate(pairwise(bounds))
    return {catalog.landmark_id(code): range(*pair) for code, pair in pairs}


def _map100(answered: AnsweredQueries, truths: _Truths, rows: Mapping[str, range]) -> float | None:
    relevant = {
        query: [*chain(*(rows.get(x, ()) for x in shown))] for query, shown in truths.items()
    }
    relevant = {query: found for query, found in relevant.items() if found}
    pairs = zip(answered.queries, answered.answers, strict=True)
    retrieved = {query.id: answer.rows.tolist() for query, answer in pairs if query.id in relevant}
    return metrics.mean_average_precision_at_100(retrieved, relevant) if relevant else None


def _class_sizes(
    predictions: Sequence[metrics.Prediction], truths: _Truths, rows: Mapping[str, range]
) -> Iterator[ClassSizeMetrics]:
    sizes = {landmark: len(own) for landmark, own in rows.items()}
    for least, asked in metrics.group_by_size(truths, sizes, CLASS_SIZES).items():
        if asked:
            given = [p for p in predictions if p.query_id in asked]
            top1, group_gap = metrics.top1_accuracy(given, asked), metrics.gap(given, asked)
            yield ClassSizeMetrics(least, len(asked), top1, group_gap)


def _threshold_metrics(gallery: Gallery, answered: AnsweredQueries) -> ThresholdMetrics | None:
    calibration = gallery.manifest.calibration
    if calibration is None:
        return None
    catalog, pairs = gallery.catalog, list(zip(answered.queries, answered.answers, strict=True))
    right = np.array([catalog.landmark_id(a.landmark) in q.landmark_ids for q, a in pairs], bool)
    shown = np.array([bool(query.landmark_ids) for query, _ in pairs], bool)
    above = np.array([bool(answer.known) for _, answer in pairs], bool)
    return ThresholdMetrics(
        confidence=calibration.threshold,
        precision_target=calibration.precision_target,
        precision=_share(right[above]),
        answered=_share(above) or 0.0,
        known_answered=_share(above[shown]),
        unknown_answered=_share(above[~shown]),
    )


def _share(facts: NDArray[np.bool_]) -> float | None:
    return float(facts.mean()) if facts.size else None
