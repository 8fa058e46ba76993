"""From query vectors to answers, by the ranking of the gallery.

Predictions over files, evaluation and the service all use this module, so they agree to the last
digit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from index.gallery.distractors import Distractors
from index.gallery.evidence import Seen, measure_signals
from index.gallery.gallery import Gallery
from index.ranking.calibration import Calibration
from index.ranking.ranking import Ranking, nearest_of_landmarks, rank
from index.ranking.rerank import rerank
from index.ranking.signals import SEEN_ROWS
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
        known: Whether the answer reaches the threshold; ``None`` without a calibration.
        score: What orders the answers of different queries: the probability that was learned
            from several signals, else the confidence.
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
    score: float
    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]
    landmark_rows: NDArray[np.int64] = field(default_factory=lambda: _NO_ROWS)
    landmark_similarities: NDArray[np.float32] = field(default_factory=lambda: _NO_SIMILARITIES)


@dataclass(frozen=True, slots=True)
class _Rule:
    """How queries are answered.

    Attributes:
        ranking: Makes landmark and confidence of the neighbors.
        calibration: Makes probability and decision of these; ``None`` for neither.
        measures: Whether signals are measured, which need more rows and the penalty C.
    """

    ranking: Ranking
    calibration: Calibration | None = None
    measures: bool = False

    @classmethod
    def of(cls, gallery: Gallery) -> Self:
        """Return the rule of a gallery; a part of some landmarks does not measure signals.

        These compare an answer with the other landmarks, all of which the calibration saw.
        """
        calibration = gallery.manifest.calibration
        if calibration is not None and gallery.selected:
            calibration = calibration.model_copy(update={"learned": None})
        learned = calibration is not None and calibration.learned is not None
        return cls(gallery.manifest.ranking, calibration, learned)

    @property
    def width(self) -> int:
        """How many rows it needs."""
        seen = SEEN_ROWS if self.measures else 1
        return max(self.ranking.voters, self.ranking.reranked, seen)


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
    return _recognize(
        _Rule.of(gallery), gallery, queries, k, landmarks=landmarks, together=together
    )


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
    return _recognize(_Rule(ranking), gallery, queries, k, landmarks=landmarks, together=together)


def _recognize(
    rule: _Rule,
    gallery: Gallery,
    queries: NDArray[np.float32],
    k: int,
    *,
    landmarks: int,
    together: bool,
) -> list[Recognition]:
    look = partial(_look, rule, gallery, together=together)
    seen = look(queries, max(k, rule.width, landmarks and landmarks + _SPARE))
    own = [queries] if together else np.split(queries, len(queries))
    if landmarks:
        seen = [
            _widen(partial(look, pictures), one, gallery, landmarks)
            for pictures, one in zip(own, seen, strict=True)
        ]
    return [
        _answer(rule, gallery, pictures, one, (k, landmarks))
        for pictures, one in zip(own, seen, strict=True)
    ]


def recognize_measured(
    ranking: Ranking, gallery: Gallery, queries: NDArray[np.float32]
) -> tuple[list[Recognition], NDArray[np.float64]]:
    """Answer ``n`` queries as :func:`recognize_by`, and measure the signals of the answers.

    Returns:
        The answers, and ``(n, s)`` signals in the order of
        :data:`index.ranking.signals.SIGNALS`.
    """
    rule = _Rule(ranking, measures=True)
    answers, signals = [], []
    for query, seen in zip(queries, _look(rule, gallery, queries, rule.width), strict=True):
        answers.append(_rank(ranking, gallery, seen, 1, 0))
        signals.append(measure_signals(gallery, query[None], seen, answers[-1].landmark))
    return answers, np.stack(signals)


def recognize_by_each(
    gallery: Gallery, rankings: Sequence[Ranking], queries: NDArray[np.float32], k: int = 1
) -> list[list[Recognition]]:
    """Answer queries as :func:`recognize`, and as :func:`recognize_by` by each of some rankings.

    Rankings of one gallery penalty, and all without, share a search; those that also rerank as
    many rows share that.

    Returns:
        The answers of the gallery's own rule, then those by each ranking.

    Raises:
        ValueError: A ranking has penalties and the gallery no distractors.
    """
    rules = [_Rule.of(gallery), *map(_Rule, rankings)]
    width = max(k, *(rule.width for rule in rules))
    strengths = {rule.ranking.gallery_penalty for rule in rules}
    found = {strength: _find(strength, gallery, queries, width) for strength in strengths}
    orders = {(rule.ranking.gallery_penalty, rule.ranking.reranked) for rule in rules}
    ordered = {
        (strength, count): _reorder(count, gallery, queries, *found[strength])
        for strength, count in orders
    }
    return [
        [
            _answer(rule, gallery, query[None], seen, (k, 0))
            for query, seen in zip(
                queries,
                _see(
                    rule,
                    gallery,
                    queries,
                    *ordered[rule.ranking.gallery_penalty, rule.ranking.reranked],
                ),
                strict=True,
            )
        ]
        for rule in rules
    ]


def _answer(
    rule: _Rule, gallery: Gallery, queries: NDArray[np.float32], seen: Seen, limits: tuple[int, int]
) -> Recognition:
    """Answer one query with neighbors and landmarks, at most as many as ``limits`` say of each."""
    answer, calibration = _rank(rule.ranking, gallery, seen, *limits), rule.calibration
    if calibration is None:
        return answer
    if calibration.learned is None:
        confidence = answer.confidence
        probability, known = calibration.probability(confidence), calibration.known(confidence)
        return replace(answer, probability=probability, known=known)
    signals = measure_signals(gallery, queries, seen, answer.landmark)
    learned = calibration.learned.probability(signals)
    known = calibration.learned.known(learned)
    return replace(answer, probability=learned, known=known, score=learned)


def _rank(ranking: Ranking, gallery: Gallery, seen: Seen, k: int, landmarks: int) -> Recognition:
    codes = gallery.catalog.landmarks[seen.rows]
    ranked = rank(codes, seen.scores, ranking)
    confidence = ranked.score - ranking.query_penalty * seen.query_penalty
    answer = Recognition(
        ranked.landmark,
        confidence,
        None,
        None,
        confidence,
        seen.rows[:k],
        seen.similarities[:k],
    )
    if not landmarks:
        return answer
    places = nearest_of_landmarks(codes, seen.scores, ranking)[:landmarks]
    return replace(
        answer, landmark_rows=seen.rows[places], landmark_similarities=seen.similarities[places]
    )


def _widen(look: Callable[[int], list[Seen]], seen: Seen, gallery: Gallery, landmarks: int) -> Seen:
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
    rule: _Rule,
    gallery: Gallery,
    queries: NDArray[np.float32],
    width: int,
    *,
    together: bool = False,
) -> list[Seen]:
    """Find the ``width`` best rows of each query, or of all of them together."""
    found, scores = _find(rule.ranking.gallery_penalty, gallery, queries, width)
    together = together and len(queries) > 1
    if not together:
        found, scores = _reorder(rule.ranking.reranked, gallery, queries, found, scores)
    return _see(rule, gallery, queries, found, scores, together=together)


def _find(
    strength: float, gallery: Gallery, queries: NDArray[np.float32], width: int
) -> tuple[Neighbors, NDArray[np.float32]]:
    """Find the ``width`` best rows of each query, and their scores."""
    if strength:
        return _nearest_penalized(np.float32(strength), gallery, queries, width)
    found = gallery.search(queries, width)
    return found, found.similarities


def _see(
    rule: _Rule,
    gallery: Gallery,
    queries: NDArray[np.float32],
    found: Neighbors,
    scores: NDArray[np.float32],
    *,
    together: bool = False,
) -> list[Seen]:
    """Put the rows of each query, or of all of them together, beside the query's penalty."""
    penalties = np.zeros(len(queries), np.float32)
    if rule.ranking.query_penalty or (rule.measures and gallery.distractors is not None):
        penalties = _distractors(gallery).of_queries(queries, rule.ranking.query_distractors)
    if together:
        return [_merge(found, scores, penalties, gallery.catalog.order)]
    each = zip(found.rows, found.similarities, scores, penalties.tolist(), strict=True)
    return [Seen(*one) for one in each]


def _reorder(
    count: int,
    gallery: Gallery,
    queries: NDArray[np.float32],
    found: Neighbors,
    scores: NDArray[np.float32],
) -> tuple[Neighbors, NDArray[np.float32]]:
    """Rerank the ``count`` first rows of each query, less their penalties; others follow."""
    if not count:
        return found, scores
    places = np.tile(np.arange(found.rows.shape[1]), (len(queries), 1))
    costs = found.similarities - scores
    for own, rows, cost, query in zip(places, found.rows, costs, queries, strict=True):
        better = rerank(query, gallery.vectors(rows[:count])) - cost[:count]
        own[:count] = np.argsort(-better, kind="stable")
    similarities, rows = take((found.similarities, found.rows), places)
    return Neighbors(rows, similarities), np.take_along_axis(scores, places, axis=1)


def _merge(
    found: Neighbors,
    scores: NDArray[np.float32],
    penalties: NDArray[np.float32],
    ties: Order | None,
) -> Seen:
    """Keep of each row the largest of its scores, and of all rows the best.

    None is missing: a row that the picture most similar to it did not return comes after all
    rows that this picture did return.
    """
    rows, flat = found.rows.reshape(-1), scores.reshape(-1)
    (order,) = best_first(flat[None], rows[None], ties)
    _, first = np.unique(rows[order], return_index=True)
    best = order[np.sort(first)][: found.rows.shape[1]]
    penalty = penalties[best[0] // found.rows.shape[1]]
    return Seen(rows[best], found.similarities.reshape(-1)[best], flat[best], float(penalty))


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
