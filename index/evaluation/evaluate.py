"""Evaluate a gallery by labeled queries, with the official metrics and the served ranking.

Beside the metrics of the gallery's own ranking stands a ladder: the same queries answered by each
ranking that the gallery allows, which shows whether its choice is right.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions
from index.evaluation import metrics
from index.evaluation.absent import count_absent
from index.evaluation.queries import (
    AnsweredQueries,
    Answers,
    EmbeddedQueries,
    answer_by_each,
    count_duplicates,
    embed_queries,
)
from index.evaluation.truths import Truths
from index.gallery.gallery import Gallery
from index.ranking.calibration import Calibration
from index.ranking.ranking import Ranking
from photographs import PhotographSet

CLASS_SIZES = (1, 5, 20, 100)
"""The smallest number of pictures of each group of landmarks that have metrics of their own."""

_FEW_QUERIES = 5_000

RERANKED = 100
"""Pictures that a rung of the ladder reranks, where the gallery's own ranking does not."""


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
    """The metrics of one ranking; ``served`` is the gallery's own, with its calibration."""

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
        confidence: The threshold; ``None`` where signals decide beside the confidence.
        probability: The threshold, as a probability.
        precision_target: The share of correct answers above it that calibration aimed at.
        precision: The share found here; ``None`` where nothing is above it.
        answered: Share of all readable queries above it.
        known_answered: Share of the known ones; ``None`` where there are none.
        unknown_answered: Share of the unknown ones; ``None`` where there are none.
    """

    confidence: float | None
    probability: float
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
        absent: Known ones of landmarks that the gallery lacks: no answer to them is right.
        unreadable: Those that could not be read, and so have no answer.
        embedded: Those that the network has embedded now; the vectors of others were kept.
        same_content: Those whose file is, byte for byte, one of the gallery.
        near_duplicates: Others that are nearly a picture of the gallery; see
            :data:`index.evaluation.queries.NEAR_DUPLICATE_COSINE`.
        ladder: The metrics of each ranking that the gallery allows, its own first.
        class_sizes: The known queries by the size of their landmark; without those whose
            landmark is not in the gallery.
        threshold: The effect of the calibrated threshold; ``None`` without a calibration.
        search_seconds: How long it took to search and rank for all queries and rankings.
        build_id: The gallery.
        embedder: Digest of the embedder.
    """

    map100: float | None
    queries: int
    known: int
    unknown: int
    absent: int
    unreadable: int
    embedded: int
    same_content: int
    near_duplicates: int
    ladder: tuple[RankingMetrics, ...]
    class_sizes: tuple[ClassSizeMetrics, ...]
    threshold: ThresholdMetrics | None
    search_seconds: float
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
    truths = Truths.of_queries(queries, gallery.catalog)
    absent = count_absent(gallery, queries, truths)
    readable = EmbeddedQueries.join(embed_queries(gallery, embedder, queries, options))
    started = time.monotonic()
    ladder = rankings(gallery, len(readable.vectors))
    answers = answer_by_each(gallery, [*ladder.values()], readable.vectors, metrics.DEPTH)
    seconds = time.monotonic() - started
    own = queries.take(readable.places)
    answered = AnsweredQueries(own, readable.vectors, answers[0])
    same, near = count_duplicates(gallery, answered, readable.contents)
    scored = Scored(truths, readable.places, _live_counts(gallery))
    evaluation = Evaluation(
        **scored.scores(answers[0]),
        map100=scored.map100(answers[0], gallery.catalog.landmarks),
        queries=len(queries),
        known=int(truths.known.sum()),
        unknown=int((~truths.known).sum()),
        absent=absent,
        unreadable=len(queries) - len(own),
        embedded=readable.embedded,
        same_content=same,
        near_duplicates=near,
        ladder=tuple(
            RankingMetrics(ranking=name, **scored.scores(given))
            for name, given in zip(("served", *ladder), answers, strict=True)
        ),
        class_sizes=tuple(scored.class_sizes(answers[0])),
        threshold=scored.threshold(answers[0], gallery.manifest.calibration),
        search_seconds=round(seconds, 3),
        build_id=gallery.build_id,
        embedder=embedder.digest,
    )
    return evaluation, answered


def rankings(gallery: Gallery, queries: int) -> dict[str, Ranking]:
    """Name the rankings that a gallery allows.

    Penalties have the strength of the gallery's own ranking, or the published one, 1, where it
    has none; so many pictures are reranked as there, or :data:`RERANKED`, which takes some
    milliseconds of each query: of many queries only where the gallery's own ranking does it.
    """
    own = gallery.manifest.ranking
    off = {"reranked": 0, "gallery_penalty": 0.0, "query_penalty": 0.0}
    plain = own.model_copy(update={"rule": "top1", **off})
    ladder = {"top1": plain, "vote": plain.model_copy(update={"rule": "vote"})}
    again = {"reranked": own.reranked or RERANKED}
    if own.reranked or queries <= _FEW_QUERIES:
        ladder |= {f"{n}, reranked": rule.model_copy(update=again) for n, rule in ladder.items()}
    if gallery.distractors is None:
        return ladder
    b = {"gallery_penalty": own.gallery_penalty or 1.0}
    c = {"query_penalty": own.query_penalty or 1.0}
    for name, update in (("B", b), ("C", c), ("B+C", b | c)):
        ladder[f"top1 - {name}"] = plain.model_copy(update=update)
    return ladder


def _live_counts(gallery: Gallery) -> NDArray[np.int64]:
    """Count the pictures of each landmark, ``(landmarks,)``, without removed ones."""
    codes = gallery.catalog.landmarks[gallery.live_rows()]
    return np.bincount(codes, minlength=gallery.catalog.landmark_count)


class Scored:
    """Scores answers to the readable ones of some queries.

    Args:
        truths: What all queries show.
        readable: ``(n,)``, the places of the readable ones, ascending.
        counts: ``(landmarks,)``, pictures of each landmark of the gallery.
    """

    def __init__(
        self, truths: Truths, readable: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> None:
        self._truths, self._readable, self._counts = truths, readable, counts
        self._own = truths.take(readable)

    def scores(self, answers: Answers) -> dict[str, Any]:
        """Return the fields of :class:`Scores`."""
        known, total = self._own.known, int(self._truths.known.sum())
        right, scores = self._own.shows(answers.landmarks), answers.scores
        both = known.any() and not known.all()
        return {
            "gap": metrics.gap_of(scores, right, total) if total else None,
            "landmark_only_gap": metrics.gap_of(scores[known], right[known], total)
            if total
            else None,
            "top1": int(right.sum()) / total if total else None,
            "auroc": metrics.auroc(scores[known], scores[~known]) if both else None,
        }

    def map100(self, answers: Answers, landmarks: NDArray[np.int32]) -> float | None:
        """Return mAP@100 over the queries whose landmark is in the gallery.

        Args:
            answers: Theirs.
            landmarks: ``(rows,)``, codes of the gallery's rows.
        """
        counts = self._truths.pictures(self._counts)
        relevant = np.zeros((len(counts), answers.rows.shape[1]), np.bool_)
        relevant[self._readable] = self._own.shows(landmarks[answers.rows])
        asked = counts > 0
        if not asked.any():
            return None
        return metrics.mean_average_precision_of(relevant[asked], counts[asked])

    def class_sizes(self, answers: Answers) -> Iterator[ClassSizeMetrics]:
        """Yield the metrics of each group of landmarks that a query shows."""
        sizes, right = self._truths.largest(self._counts), self._own.shows(answers.landmarks)
        for least, above in zip(CLASS_SIZES, (*CLASS_SIZES[1:], np.inf), strict=True):
            asked = (sizes >= least) & (sizes < above)
            if total := int(asked.sum()):
                own = asked[self._readable]
                group_gap = metrics.gap_of(answers.scores[own], right[own], total)
                top1 = int(right[own].sum()) / total
                yield ClassSizeMetrics(least, total, top1, group_gap)

    def threshold(
        self, answers: Answers, calibration: Calibration | None
    ) -> ThresholdMetrics | None:
        """Return the effect of a calibration's threshold."""
        if calibration is None:
            return None
        right, shown = self._own.shows(answers.landmarks), self._own.known
        above, learned = answers.accepted, calibration.learned
        return ThresholdMetrics(
            confidence=None if learned else calibration.threshold,
            probability=learned.threshold
            if learned
            else calibration.probability(calibration.threshold),
            precision_target=calibration.precision_target,
            precision=_share(right[above]),
            answered=_share(above) or 0.0,
            known_answered=_share(above[shown]),
            unknown_answered=_share(above[~shown]),
        )


def _share(facts: NDArray[np.bool_]) -> float | None:
    return float(facts.mean()) if facts.size else None
