"""Learn what a confidence is worth from labeled queries, and publish the gallery with it.

The new build shares every file with the one that was published; only its manifest is its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from embedder.errors import CatalogError, GalleryError
from index.building.build import link
from index.building.pipeline import BATCH_PICTURES
from index.evaluation.predict import embed_queries
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest, write_manifest
from index.gallery.recognize import recognize_by
from index.gallery.store import Store
from index.ranking.calibration import Calibration, choose_threshold, fit_logistic
from index.ranking.ranking import Ranking
from photographs import PhotographSet, Query

PRECISION_TARGET = 0.95
"""The share of believed answers that shall be right, unless another one is asked for."""

PUBLISHED_STRENGTH = 1.0
"""The most that is learned: see :class:`index.ranking.ranking.Ranking`."""

_FEWEST = 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabeledAnswers:
    """Answers that are known to be right or wrong.

    Attributes:
        scores: ``(n,)`` confidences without the penalty of the query.
        penalties: ``(n,)`` the penalty C of each query, of strength 1; zeros without distractors.
        right: ``(n,)``.
        unknown: How many of the queries show no landmark.
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
    *,
    precision_target: float = PRECISION_TARGET,
    batch_pictures: int = BATCH_PICTURES,
    readers: int = 0,
) -> GalleryManifest:
    """Calibrate the published gallery by labeled queries and publish the result.

    Three things are learned: the strength of the query's penalty, where the gallery has
    distractors; the curve from confidence to probability; and the threshold from which answers
    are believed. Queries that are pictures of the gallery are left out.

    Args:
        store: Holds the gallery.
        embedder: The one that made it.
        data: Holds the queries, pictures of no landmark among them.
        precision_target: The share of right answers from the threshold on, in (0, 1).
        batch_pictures: Pictures that the network gets at once.
        readers: Threads that read and decode; 0 for one per core.

    Returns:
        The manifest of the published gallery.

    Raises:
        StoreBusyError: Another process writes to the store.
        CatalogError: The queries do not allow it: too few, or none of no landmark.
        GalleryError: The confidence does not tell right from wrong, or no threshold reaches
            the target; or the store cannot be written.
    """
    queries = data.queries()
    _demand_strangers(data, queries)
    try:
        with store.writing():
            gallery = Gallery.open(store.path, embedder_digest=embedder.digest)
            answers = answer_labeled(
                gallery, embedder, queries, batch_pictures=batch_pictures, readers=readers
            )
            if len(answers) < _FEWEST:
                raise CatalogError(
                    data.directory, f"it has {len(answers)} usable queries; {_FEWEST} are needed"
                )
            ranking, calibration = learn(
                answers,
                gallery.manifest.ranking,
                precision_target,
                data=str(data.directory.resolve()),
                build_id=gallery.build_id,
            )
            return _publish(store, gallery, ranking, calibration)
    except OSError as error:
        raise GalleryError(
            f"{error.filename or store.path} cannot be written: {error.strerror or error}; "
            "what was published is unchanged"
        ) from error


def answer_labeled(
    gallery: Gallery,
    embedder: Embedder,
    queries: Sequence[Query],
    *,
    batch_pictures: int = BATCH_PICTURES,
    readers: int = 0,
) -> LabeledAnswers:
    """Answer queries by the gallery's ranking, the penalty of the query kept apart.

    Queries that cannot be read, and those whose file is one of the gallery's, are left out.
    """
    batches = list(
        embed_queries(gallery, embedder, queries, batch_pictures=batch_pictures, readers=readers)
    )
    pictures = [picture for batch in batches for picture in batch.pictures]
    held = {
        gallery.catalog.row(int(row)).sha256
        for row in gallery.catalog.rows_of_content({p.sha256 for p in pictures if p.usable})
    }
    kept = [
        place
        for place, picture in enumerate(pictures)
        if picture.usable and picture.sha256 not in held
    ]
    if left_out := len(queries) - len(kept):
        _log.warning("%d queries are unreadable or in the gallery itself; left out", left_out)
    vectors = np.concatenate([batch.vectors for batch in batches])[kept]
    return label(gallery, vectors, [queries[place].landmark_ids for place in kept])


def label(
    gallery: Gallery, vectors: NDArray[np.float32], truths: Sequence[Sequence[str]]
) -> LabeledAnswers:
    """Answer ``(n, d)`` vectors by the gallery's ranking and compare with ``n`` truths."""
    ranking = gallery.manifest.ranking
    answers = recognize_by(ranking.model_copy(update={"query_penalty": 0.0}), gallery, vectors)
    penalties = np.zeros(len(vectors), np.float32)
    if gallery.distractors is not None:
        penalties = gallery.distractors.of_queries(vectors, ranking.query_distractors)
    named = [gallery.catalog.landmark_id(answer.landmark) for answer in answers]
    return LabeledAnswers(
        np.array([answer.confidence for answer in answers], np.float64),
        penalties.astype(np.float64),
        np.array([name in truth for name, truth in zip(named, truths, strict=True)], np.bool_),
        sum(not truth for truth in truths),
    )


def learn(
    answers: LabeledAnswers, ranking: Ranking, target: float, *, data: str, build_id: str
) -> tuple[Ranking, Calibration]:
    """Learn a calibration, and with distractors the strength of the query's penalty.

    One logistic curve over score and penalty tells how much each of them counts. The ratio of
    the two is the strength, up to the published one: few queries tell no more, and a stronger
    penalty costs more where it is wrong. A penalty that would be a reward is left out.

    Args:
        answers: To learn from.
        ranking: By which they were answered.
        target: The precision that the threshold shall reach.
        data: Where the answers came from.
        build_id: What gave them.

    Raises:
        GalleryError: The confidence does not tell right from wrong, or no threshold reaches
            the target.
    """
    if answers.right.all() or not answers.right.any():
        raise GalleryError("the answers are all right or all wrong; there is nothing to learn")
    strength = 0.0
    if answers.penalties.any():
        both = fit_logistic(np.column_stack([answers.scores, answers.penalties]), answers.right)
        own, penalty = both.weights
        strength = float(np.clip(-penalty / own, 0.0, PUBLISHED_STRENGTH)) if own > 0 else 0.0
    confidences = answers.scores - strength * answers.penalties
    curve = fit_logistic(confidences[:, None], answers.right)
    if curve.weights[0] <= 0:
        raise GalleryError("right answers are no surer than wrong ones: this cannot be calibrated")
    chosen = choose_threshold(confidences, answers.right, target)
    if chosen is None:
        raise GalleryError(
            f"no threshold makes {target:.0%} of the answers right: ask for less, or train longer"
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


def _demand_strangers(data: PhotographSet, queries: Sequence[Query]) -> None:
    if not queries:
        raise CatalogError(data.directory, "it holds no labeled queries to calibrate by")
    if all(query.landmark_ids for query in queries):
        raise CatalogError(
            data.directory,
            "every query shows a landmark: without pictures of none, nothing can be learned "
            "about strangers",
        )


def _publish(
    store: Store, gallery: Gallery, ranking: Ranking, calibration: Calibration
) -> GalleryManifest:
    build_id = store.new_build_id()
    update = {
        "build_id": build_id,
        "created": datetime.now(UTC).replace(microsecond=0),
        "ranking": ranking,
        "calibration": calibration,
    }
    manifest = gallery.manifest.model_copy(update=update)
    with store.staging(build_id) as staged:
        for name in manifest.files:
            link(gallery.directory / name, staged / name)
        write_manifest(staged, manifest)
        Gallery.open_directory(staged, embedder_digest=manifest.embedder.digest).close()
        store.publish(build_id)
    return manifest
