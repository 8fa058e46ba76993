"""From query vectors to answers, by the ranking of the gallery: the rule that is served.

Predictions over files, evaluation and the service all come through here, so that they agree
to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from index.gallery.distractors import Distractors
from index.gallery.gallery import Gallery
from index.ranking.ranking import Ranking, penalize, rank
from index.search.neighbors import Neighbors

_SPARE = 64
"""Neighbors looked at beyond those that are wanted, before it is known how many must be."""

_WIDER = 4
"""How many times more are looked at where that was not enough."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a gallery says to one query.

    Attributes:
        landmark: Code of the landmark.
        confidence: Cosine, or what the gallery's ranking makes of it; larger is surer.
        probability: Chance that the landmark is right; ``None`` without a calibration.
        known: Whether the landmark is to be believed; ``None`` without a calibration.
        rows: ``(k,)`` gallery rows, nearest first by the ranking.
        similarities: ``(k,)`` their cosines, without penalties.
    """

    landmark: int
    confidence: float
    probability: float | None
    known: bool | None
    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]


def recognize(gallery: Gallery, queries: NDArray[np.float32], k: int = 1) -> list[Recognition]:
    """Answer queries by the ranking, and with the calibration, of the gallery.

    Args:
        gallery: Searched.
        queries: ``(n, d)`` unit rows.
        k: Neighbors to tell of, at least 1.

    Returns:
        ``n`` answers, in the same order.
    """
    calibration = gallery.manifest.calibration
    answers = recognize_by(gallery.manifest.ranking, gallery, queries, k)
    if calibration is None:
        return answers
    return [
        replace(
            answer,
            probability=calibration.probability(answer.confidence),
            known=calibration.known(answer.confidence),
        )
        for answer in answers
    ]


def recognize_by(
    ranking: Ranking, gallery: Gallery, queries: NDArray[np.float32], k: int = 1
) -> list[Recognition]:
    """Answer queries by another ranking than the gallery's own, without its calibration.

    Args:
        ranking: Its penalties need a gallery with distractors.
        gallery: Searched.
        queries: ``(n, d)`` unit rows.
        k: Neighbors to tell of, at least 1.

    Raises:
        ValueError: The ranking has penalties and the gallery no distractors.
    """
    found, scores = _nearest(ranking, gallery, queries, max(k, ranking.heard))
    landmarks = gallery.catalog.landmarks[found.rows]
    best = [rank(codes, row, ranking) for codes, row in zip(landmarks, scores, strict=True)]
    costs = query_costs(ranking, gallery, queries)
    return [
        Recognition(
            ranked.landmark,
            ranked.score - cost,
            None,
            None,
            found.rows[place, :k],
            found.similarities[place, :k],
        )
        for place, (ranked, cost) in enumerate(zip(best, costs.tolist(), strict=True))
    ]


def query_costs(
    ranking: Ranking, gallery: Gallery, queries: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return ``(n,)`` what is subtracted from the confidence of each of ``n`` queries."""
    if not ranking.query_penalty:
        return np.zeros(len(queries), np.float32)
    penalties = _distractors(gallery).of_queries(queries, ranking.query_distractors)
    return np.float32(ranking.query_penalty) * penalties


def _nearest(
    ranking: Ranking, gallery: Gallery, queries: NDArray[np.float32], k: int
) -> tuple[Neighbors, NDArray[np.float32]]:
    """Find the ``k`` rows that the ranking puts first, with what it compares them by."""
    if not ranking.gallery_penalty:
        found = gallery.search(queries, k)
        return found, found.similarities
    return _nearest_penalized(np.float32(ranking.gallery_penalty), gallery, queries, k)


def _nearest_penalized(
    strength: np.float32, gallery: Gallery, queries: NDArray[np.float32], k: int
) -> tuple[Neighbors, NDArray[np.float32]]:
    """Find the ``k`` rows of largest similarity less penalty.

    The search orders by similarity alone, so it is asked for more than ``k``. A row that was
    not looked at is at most as similar as the last one that was, and pays at least the
    smallest penalty: where the ``k``-th found is above that, nothing can be missing. Otherwise
    more rows are looked at, in the end all of them.
    """
    distractors = _distractors(gallery)
    smallest = strength * np.float32(distractors.smallest)
    k = min(k, len(gallery))
    rows = np.empty((len(queries), k), np.int64)
    similarities, scores = (np.empty((len(queries), k), np.float32) for _ in range(2))
    open_, width = np.arange(len(queries)), k + _SPARE
    while open_.size:
        seen = gallery.search(queries[open_], width)
        penalties = strength * distractors.penalties[seen.rows]
        places, penalized = penalize(seen.rows, seen.similarities, penalties, k)
        rows[open_] = np.take_along_axis(seen.rows, places, axis=1)
        similarities[open_] = np.take_along_axis(seen.similarities, places, axis=1)
        scores[open_] = penalized
        if seen.rows.shape[1] < width:
            break
        certain = penalized[:, -1] > seen.similarities[:, -1] - smallest
        open_, width = open_[~certain], _WIDER * width
    return Neighbors(rows, similarities), scores


def _distractors(gallery: Gallery) -> Distractors:
    if gallery.distractors is None:
        raise ValueError(f"the gallery {gallery.build_id} has no distractors to penalize by")
    return gallery.distractors
