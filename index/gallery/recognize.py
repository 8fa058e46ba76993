"""From query vectors to answers, by the ranking of the gallery.

Predictions over files, evaluation and the service all use this module, so they agree to the last
digit.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from index.gallery.distractors import Distractors
from index.gallery.gallery import Gallery
from index.ranking.ranking import Ranking, rank
from index.search.neighbors import Neighbors, take

_SPARE, _WIDENED = 64, 1024
"""Neighbors searched beyond those wanted, first and where these were not enough."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """The answer of a gallery to one query.

    Attributes:
        landmark: Code of the landmark.
        confidence: Score of the gallery's ranking, on the scale of cosines; larger is surer.
        probability: Of the landmark being right; ``None`` without a calibration.
        known: Whether the confidence reaches the threshold; ``None`` without a calibration.
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
    """Answer queries, ``(n, d)``, by the ranking and the calibration of the gallery.

    Each of the ``n`` answers has ``k`` neighbors, at least 1.
    """
    calibration = gallery.manifest.calibration
    answers = recognize_by(gallery.manifest.ranking, gallery, queries, k)
    if calibration is None:
        return answers
    probability, known = calibration.probability, calibration.known
    return [
        replace(a, probability=probability(a.confidence), known=known(a.confidence))
        for a in answers
    ]


def recognize_by(
    ranking: Ranking, gallery: Gallery, queries: NDArray[np.float32], k: int = 1
) -> list[Recognition]:
    """Answer queries as :func:`recognize` by any ranking, without a calibration.

    Raises:
        ValueError: The ranking has penalties and the gallery no distractors.
    """
    width = max(k, ranking.voters)
    if ranking.gallery_penalty:
        strength = np.float32(ranking.gallery_penalty)
        found, scores = _nearest_penalized(strength, gallery, queries, width)
    else:
        found = gallery.search(queries, width)
        scores = found.similarities
    landmarks = gallery.catalog.landmarks[found.rows]
    best = [rank(codes, row, ranking) for codes, row in zip(landmarks, scores, strict=True)]
    costs = np.zeros(len(queries), np.float32)
    if ranking.query_penalty:
        penalties = _distractors(gallery).of_queries(queries, ranking.query_distractors)
        costs = np.float32(ranking.query_penalty) * penalties
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


def _nearest_penalized(
    strength: np.float32, gallery: Gallery, queries: NDArray[np.float32], k: int
) -> tuple[Neighbors, NDArray[np.float32]]:
    """Find the ``k`` rows of largest similarity less penalty.

    A search orders by similarity alone, so it is asked for more than ``k`` rows. A row that it
    did not return is at most as similar as the last one that it did, and has at least the
    smallest penalty: where the ``k``-th score is above that, none is missing. Other queries are
    searched once more for more rows, and those that remain are compared with every row.
    """
    distractors = _distractors(gallery)
    smallest = strength * np.float32(distractors.smallest)
    k = min(k, len(gallery))
    rows = np.empty((len(queries), k), np.int64)
    similarities, scores = (np.empty((len(queries), k), np.float32) for _ in range(2))
    pending = np.arange(len(queries))
    for width in (k + _SPARE, k + _WIDENED, None):
        if not pending.size:
            break
        if width is None:
            seen = gallery.scan(queries[pending], k + _SPARE, strength * distractors.penalties)
        else:
            seen = gallery.search(queries[pending], width)
        penalized = seen.similarities - strength * distractors.penalties[seen.rows]
        places = np.lexsort((seen.rows, -penalized))[:, :k]  # of equal scores the smaller row
        similarities[pending], rows[pending] = take((seen.similarities, seen.rows), places)
        scores[pending] = best = np.take_along_axis(penalized, places, axis=1)
        if width is None or seen.rows.shape[1] < width:  # nothing is left to be seen
            break
        pending = pending[best[:, -1] <= seen.similarities[:, -1] - smallest]
    return Neighbors(rows, similarities), scores


def _distractors(gallery: Gallery) -> Distractors:
    if gallery.distractors is None:
        raise ValueError(f"the gallery {gallery.build_id} has no distractors to penalize by")
    return gallery.distractors
