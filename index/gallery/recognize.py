"""From query vectors to answers, by the ranking of the gallery.

Predictions over files, evaluation and the service all use this module, so they agree to the last
digit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from index.gallery.distractors import Distractors
from index.gallery.gallery import Gallery
from index.ranking.ranking import Ranking, nearest_of_landmarks, rank
from index.search.neighbors import Neighbors, Order, best_first, take

_SPARE, _WIDENED = 64, 1024
"""Neighbors searched beyond those wanted, first and where these were not enough."""

_WIDER = 16
"""Factor by which a search is widened where it showed too few landmarks."""

_NO_ROWS = np.empty(0, np.int64)
_NO_SIMILARITIES = np.empty(0, np.float32)


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
        landmark_rows: ``(m,)`` the nearest row of each of the ``m`` best landmarks, best first,
            beginning with ``landmark``; empty where none were asked for.
        landmark_similarities: ``(m,)`` their cosines, without penalties.
    """

    landmark: int
    confidence: float
    probability: float | None
    known: bool | None
    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]
    landmark_rows: NDArray[np.int64] = field(default_factory=lambda: _NO_ROWS)
    landmark_similarities: NDArray[np.float32] = field(default_factory=lambda: _NO_SIMILARITIES)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The rows nearest to one query, or to several pictures that are one query.

    Attributes:
        rows: ``(w,)``, largest score first.
        similarities: ``(w,)`` cosines.
        scores: ``(w,)``, the cosines less the penalties of the rows.
        cost: Penalty of the picture that is nearest.
    """

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]
    scores: NDArray[np.float32]
    cost: float


def recognize(
    gallery: Gallery,
    queries: NDArray[np.float32],
    k: int = 1,
    *,
    landmarks: int = 0,
    together: bool = False,
) -> list[Recognition]:
    """Answer queries by the ranking and the calibration of the gallery.

    Args:
        gallery: At least one row can be found in it.
        queries: ``(n, d)`` unit rows, finite.
        k: Neighbors of each answer, at least 1.
        landmarks: How many of the best landmarks each answer has; all where there are fewer.
        together: The ``n`` queries, at least one, are pictures of one thing and get one answer:
            the score of a row is the largest of its scores for any of them.
    """
    calibration = gallery.manifest.calibration
    ranking = gallery.manifest.ranking
    answers = recognize_by(ranking, gallery, queries, k, landmarks=landmarks, together=together)
    if calibration is None:
        return answers
    probability, known = calibration.probability, calibration.known
    return [
        replace(a, probability=probability(a.confidence), known=known(a.confidence))
        for a in answers
    ]


def recognize_by(
    ranking: Ranking,
    gallery: Gallery,
    queries: NDArray[np.float32],
    k: int = 1,
    *,
    landmarks: int = 0,
    together: bool = False,
) -> list[Recognition]:
    """Answer queries as :func:`recognize` by any ranking, without a calibration.

    Raises:
        ValueError: The ranking has penalties and the gallery no distractors.
    """
    look = partial(_look, ranking, gallery, together=together)
    seen = look(queries, max(k, ranking.voters, landmarks and landmarks + _SPARE))
    if landmarks:
        queries_of_one = [queries] if together else np.split(queries, len(queries))
        seen = [
            _widen(partial(look, own), one, gallery, landmarks)
            for own, one in zip(queries_of_one, seen, strict=True)
        ]
    return [_rank(ranking, gallery, one, k, landmarks) for one in seen]


def recognize_by_each(
    rankings: Sequence[Ranking], gallery: Gallery, queries: NDArray[np.float32], k: int = 1
) -> list[list[Recognition]]:
    """Answer queries as :func:`recognize_by` by each of several rankings.

    Rankings of one gallery penalty, and all without, share a search.

    Raises:
        ValueError: A ranking has penalties and the gallery no distractors.
    """
    width = max(k, *(ranking.voters for ranking in rankings))
    strengths = {ranking.gallery_penalty for ranking in rankings}
    found = {strength: _find(strength, gallery, queries, width) for strength in strengths}
    return [
        [
            _rank(ranking, gallery, seen, k, 0)
            for seen in _see(ranking, gallery, queries, *found[ranking.gallery_penalty])
        ]
        for ranking in rankings
    ]


def _rank(ranking: Ranking, gallery: Gallery, seen: _Seen, k: int, landmarks: int) -> Recognition:
    codes = gallery.catalog.landmarks[seen.rows]
    ranked = rank(codes, seen.scores, ranking)
    answer = Recognition(
        ranked.landmark,
        ranked.score - seen.cost,
        None,
        None,
        seen.rows[:k],
        seen.similarities[:k],
    )
    if not landmarks:
        return answer
    places = nearest_of_landmarks(codes, seen.scores, ranking)[:landmarks]
    return replace(
        answer, landmark_rows=seen.rows[places], landmark_similarities=seen.similarities[places]
    )


def _widen(
    look: Callable[[int], list[_Seen]], seen: _Seen, gallery: Gallery, landmarks: int
) -> _Seen:
    """Look for more rows until they show enough landmarks, or all that there are.

    The width grows by a factor, so that the last search costs more than all before together,
    and none more than comparing every row.
    """
    codes, width = gallery.catalog.landmarks, len(seen.rows)
    while len(np.unique(codes[seen.rows])) < landmarks and width < len(gallery):
        landmarks = min(landmarks, len(gallery.landmarks()))
        width = min(_WIDER * width, len(gallery))
        (seen,) = look(width)
    return seen


def _look(
    ranking: Ranking,
    gallery: Gallery,
    queries: NDArray[np.float32],
    width: int,
    *,
    together: bool,
) -> list[_Seen]:
    """Find the ``width`` best rows of each query, or of all of them together."""
    found, scores = _find(ranking.gallery_penalty, gallery, queries, width)
    return _see(ranking, gallery, queries, found, scores, together=together)


def _find(
    strength: float, gallery: Gallery, queries: NDArray[np.float32], width: int
) -> tuple[Neighbors, NDArray[np.float32]]:
    """Find the ``width`` best rows of each query, and their scores."""
    if strength:
        return _nearest_penalized(np.float32(strength), gallery, queries, width)
    found = gallery.search(queries, width)
    return found, found.similarities


def _see(
    ranking: Ranking,
    gallery: Gallery,
    queries: NDArray[np.float32],
    found: Neighbors,
    scores: NDArray[np.float32],
    *,
    together: bool = False,
) -> list[_Seen]:
    """Put the rows of each query, or of all of them together, beside the query's penalty."""
    costs = np.zeros(len(queries), np.float32)
    if ranking.query_penalty:
        penalties = _distractors(gallery).of_queries(queries, ranking.query_distractors)
        costs = np.float32(ranking.query_penalty) * penalties
    if together and len(queries) > 1:
        return [_merge(found, scores, costs, gallery.catalog.order)]
    each = zip(found.rows, found.similarities, scores, costs.tolist(), strict=True)
    return [_Seen(*one) for one in each]


def _merge(
    found: Neighbors, scores: NDArray[np.float32], costs: NDArray[np.float32], ties: Order | None
) -> _Seen:
    """Keep of each row the largest of its scores, and of all rows the best.

    None is missing: a row that the picture most similar to it did not return comes after all
    rows that this picture did return.
    """
    rows, flat = found.rows.reshape(-1), scores.reshape(-1)
    (order,) = best_first(flat[None], rows[None], ties)
    _, first = np.unique(rows[order], return_index=True)
    best = order[np.sort(first)][: found.rows.shape[1]]
    cost = costs[best[0] // found.rows.shape[1]]
    return _Seen(rows[best], found.similarities.reshape(-1)[best], flat[best], float(cost))


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
        places = best_first(penalized, seen.rows, gallery.catalog.order)[:, :k]
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
