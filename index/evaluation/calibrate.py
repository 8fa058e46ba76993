"""Calibrate a gallery by labeled queries.

The calibrated build shares every file with the one before; only its manifest is its own.
"""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from embedder.errors import CatalogError, GalleryError
from index.building.embedded import Tally
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions
from index.building.publish import republish
from index.evaluation.absent import count_absent
from index.evaluation.defaults import PRECISION_TARGET
from index.evaluation.queries import (
    EmbeddedQueries,
    answer_by_each,
    embed_queries,
    rows_with_content,
)
from index.evaluation.truths import Truths
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store
from index.ranking.calibration import Calibration, choose_threshold, fit_logistic
from index.ranking.ranking import Ranking
from photographs import PhotographSet

PUBLISHED_STRENGTH = 1.0
"""Upper bound of the fitted query penalty: see :class:`index.ranking.ranking.Ranking`."""

_FEWEST = 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CalibrationRecipe:
    """The options of a calibration.

    Attributes:
        precision_target: Share of correct answers above the threshold, in (0, 1).
        build_id: The build that is calibrated; ``None`` for the published one.
        pipeline: Batch size and threads.
    """

    precision_target: float = PRECISION_TARGET
    build_id: str | None = None
    pipeline: PipelineOptions = DEFAULT_OPTIONS


@dataclass(frozen=True, slots=True)
class LabeledAnswers:
    """Answers that are known to be correct or wrong.

    Attributes:
        scores: ``(n,)`` confidences without the penalty of the query.
        penalties: ``(n,)`` the penalty C of each query, of strength 1; zeros without distractors.
        right: ``(n,)``, whether the answer is correct.
        unknown: Number of queries that show no landmark.
    """

    scores: NDArray[np.float64]
    penalties: NDArray[np.float64]
    right: NDArray[np.bool_]
    unknown: int

    def __len__(self) -> int:
        return len(self.scores)


def calibrate(
    store: Store,
    embedder: Embedder,
    data: PhotographSet,
    recipe: CalibrationRecipe | None = None,
    tally: Tally | None = None,
) -> GalleryManifest:
    """Calibrate a gallery by labeled queries, and publish the result if it was published.

    Three things are fitted: the strength of the query penalty, where the gallery has
    distractors; the curve from confidence to probability; and the threshold above which an
    answer counts as known. Queries that are pictures of the gallery are left out.

    Args:
        store: Holds the gallery.
        embedder: The one that made it.
        data: Holds the queries, some of which show no landmark.
        recipe: Options.
        tally: Is told how many queries were embedded.

    Raises:
        StoreBusyError: Another process writes to the store.
        CatalogError: There are too few queries, or none without a landmark.
        GalleryError: The confidence does not separate correct from wrong answers, or no
            threshold reaches the target; or the store cannot be written.
    """
    queries = data.queries()
    if not queries:
        raise CatalogError(data.directory, "it holds no labeled queries to calibrate by")
    if all(query.landmark_ids for query in queries):
        reason = (
            "every query shows a landmark: without pictures of none, no threshold can be fitted"
        )
        raise CatalogError(data.directory, reason)
    recipe = recipe or CalibrationRecipe()
    with (
        store.writing(),
        closing(
            Gallery.open(store.path, embedder_digest=embedder.digest, build=recipe.build_id)
        ) as gallery,
    ):
        count_absent(gallery, queries, Truths.of_queries(queries, gallery.catalog))
        batches = embed_queries(gallery, embedder, queries, recipe.pipeline)
        readable = EmbeddedQueries.join(batches)
        if tally is not None:
            tally.embedded = readable.embedded
            tally.known = len(readable.places) - readable.embedded
        usable = rows_with_content(gallery, readable.contents) < 0
        places, vectors = readable.places[usable], readable.vectors[usable]
        if skipped := len(queries) - len(places):
            _log.warning("%d queries are unreadable or in the gallery itself; left out", skipped)
        if len(places) < _FEWEST:
            reason = f"it has {len(places)} usable queries; {_FEWEST} are needed"
            raise CatalogError(data.directory, reason)
        truths = [query.landmark_ids for query in queries.take(places)]
        ranking, calibration = fit_calibration(
            label_answers(gallery, vectors, truths),
            gallery.manifest.ranking,
            recipe.precision_target,
            data=str(data.directory.resolve()),
            build_id=gallery.build_id,
        )
        no_publish = gallery.build_id != store.current()
        return republish(
            store, gallery, no_publish=no_publish, ranking=ranking, calibration=calibration
        )


def label_answers(
    gallery: Gallery, vectors: NDArray[np.float32], truths: Sequence[Sequence[str]]
) -> LabeledAnswers:
    """Answer ``(n, d)`` vectors by the gallery's ranking and compare with ``n`` truths.

    The penalty of the query is kept apart from the score.
    """
    ranking = gallery.manifest.ranking
    plain = ranking.model_copy(update={"query_penalty": 0.0})
    (answers,) = answer_by_each(gallery, [plain], vectors)
    penalties = np.zeros(len(vectors), np.float32)
    if gallery.distractors is not None:
        penalties = gallery.distractors.of_queries(vectors, ranking.query_distractors)
    shown = Truths.of(truths, gallery.catalog)
    right, unknown = shown.shows(answers.landmarks), int((~shown.known).sum())
    return LabeledAnswers(answers.confidences, penalties.astype(np.float64), right, unknown)


def fit_calibration(
    answers: LabeledAnswers, ranking: Ranking, target: float, *, data: str, build_id: str
) -> tuple[Ranking, Calibration]:
    """Fit a calibration, and with distractors the strength of the query penalty.

    A logistic regression on score and penalty weighs the two. The ratio of the weights is the
    strength, up to the published one: few queries justify no more, and a stronger penalty costs
    more where it is wrong. A negative penalty is left out.

    The precision of the threshold must reach ``target``; ``data`` and ``build_id`` are recorded.

    Raises:
        GalleryError: The confidence does not separate correct from wrong answers, or no
            threshold reaches the target.
    """
    if answers.right.all() or not answers.right.any():
        raise GalleryError("the answers are all right or all wrong: nothing can be fitted")
    strength = 0.0
    if answers.penalties.any():
        both = fit_logistic(np.column_stack([answers.scores, answers.penalties]), answers.right)
        own, penalty = both.weights
        strength = float(np.clip(-penalty / own, 0.0, PUBLISHED_STRENGTH)) if own > 0 else 0.0
    confidences = answers.scores - strength * answers.penalties
    curve = fit_logistic(confidences[:, None], answers.right)
    if curve.weights[0] <= 0:
        reason = "correct answers are no more confident than wrong ones"
        raise GalleryError(f"{reason}: this cannot be calibrated")
    chosen = choose_threshold(confidences, answers.right, target)
    if chosen is None:
        raise GalleryError(
            f"no threshold makes {target:.0%} of the answers right: lower it or train longer"
        )
    calibration = Calibration(
        slope=float(curve.weights[0]),
        intercept=curve.intercept,
        threshold=chosen.confidence,
        precision_target=target,
        precision=chosen.precision,
        answered=chosen.answered,
        queries=len(answers),
        unknown=answers.unknown,
        right=int(answers.right.sum()),
        data=data,
        build_id=build_id,
    )
    return ranking.model_copy(update={"query_penalty": strength}), calibration
