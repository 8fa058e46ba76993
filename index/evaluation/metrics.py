"""Metrics of recognition and retrieval; pure functions that know no galleries or files.

Every metric follows its official definition, ties included: two programs that score the same
answers print the same number.
"""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Shown = TypeVar("_Shown", bound=Collection[str])

DEPTH = 100
"""Places of a ranking that count for :func:`mean_average_precision_at_100`."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The one answer to a query. A query without one abstains.

    Attributes:
        query_id: The query.
        landmark_id: The predicted landmark.
        confidence: Any finite number; larger is more confident.
    """

    query_id: str
    landmark_id: str
    confidence: float


def gap(predictions: Sequence[Prediction], truths: Mapping[str, Collection[str]]) -> float:
    """Score answers by global average precision, as GLDv2 recognition does.

    All answers are sorted together: higher confidence, then smaller query id, then smaller
    landmark id (which never decides while a query has one answer). With ``M`` the number of
    queries that show a landmark, ``P(i)`` the precision of the first ``i`` answers and
    ``rel(i)`` 1 where answer ``i`` is correct, else 0::

        GAP = (1 / M) * sum over i of P(i) * rel(i)

    Source: ``GlobalAveragePrecision`` in ``metrics.py`` of the delf project. Answers to
    queries of no landmark count as wrong and push the later ones down.

    Args:
        predictions: In any order; at most one per query.
        truths: By query id, every landmark that it shows; empty for a picture of no landmark.
            An answer is correct if it is among them.

    Returns:
        In [0, 1]; 0 where nothing was answered.

    Raises:
        ValueError: No query shows a landmark, or an answer is faulty: of a query that
            ``truths`` does not know, a second one of a query, or of no finite confidence.

    >>> truths = {"a": ["1"], "b": ["2", "3"], "c": []}
    >>> answers = [Prediction("a", "1", 0.9), Prediction("b", "3", 0.5), Prediction("c", "1", 0.7)]
    >>> round(gap(answers, truths), 4)  # (1/1 + 2/3) / 2
    0.8333
    """
    _check(predictions, truths)
    ordered = sorted(predictions, key=lambda p: (p.query_id, p.landmark_id))
    right = [answer.landmark_id in truths[answer.query_id] for answer in ordered]
    confidences = [answer.confidence for answer in ordered]
    return gap_of(np.array(confidences), np.array(right, np.bool_), _count_known(truths))


def gap_of(confidences: NDArray[np.floating], right: NDArray[np.bool_], known: int) -> float:
    """Score answers by :func:`gap`, given as columns.

    Args:
        confidences: ``(n,)``, finite, in the order of the query ids.
        right: ``(n,)``, whether each answer is correct.
        known: How many queries show a landmark, at least 1, those without an answer too.

    >>> round(gap_of(np.array([0.9, 0.5, 0.7]), np.array([True, True, False]), 2), 4)
    0.8333
    """
    hits = right[np.argsort(-confidences, kind="stable")]
    precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return _sum(precisions[hits]) / known


def _sum(numbers: NDArray[np.floating]) -> float:
    """Add one after the other, as a loop over queries does: the same to the last digit."""
    return float(np.cumsum(numbers)[-1]) if len(numbers) else 0.0


def top1_accuracy(
    predictions: Sequence[Prediction], truths: Mapping[str, Collection[str]]
) -> float:
    """Return the share of the queries with a landmark that were answered correctly.

    A query without a prediction counts as wrong. Arguments and errors are those of :func:`gap`.

    >>> top1_accuracy([Prediction("a", "1", 0.9)], {"a": ["1"], "b": ["2"], "c": []})
    0.5
    """
    _check(predictions, truths)
    right = sum(p.landmark_id in truths[p.query_id] for p in predictions)
    return right / _count_known(truths)


def auroc(known: ArrayLike, unknown: ArrayLike) -> float:
    """Return how well a confidence separates pictures of known landmarks from the others.

    The area under the receiver operating characteristic: the chance that a random known
    picture gets a higher confidence than a random unknown one, a tie counting one half
    (Mann and Whitney, 1947).

    Args:
        known: ``(a,)`` confidences of pictures that show a landmark.
        unknown: ``(b,)`` confidences of pictures that show none.

    Returns:
        In [0, 1]; 0.5 is chance.

    Raises:
        ValueError: One of the two is empty, or a confidence is not finite.

    >>> auroc([0.9, 0.5], [0.5, 0.1])
    0.875
    """
    above, below = (np.array(scores, np.float64).ravel() for scores in (known, unknown))
    if not (above.size and below.size):
        raise ValueError("AUROC needs known and unknown pictures")
    if not (np.isfinite(above).all() and np.isfinite(below).all()):
        raise ValueError("a confidence is not finite")
    below.sort()
    wins = sum(np.searchsorted(below, above, side).sum() for side in ("left", "right"))
    return float(wins / (2 * above.size * below.size))


def mean_average_precision_at_100(
    rankings: Mapping[str, Sequence[Hashable]], relevant: Mapping[str, Collection[Hashable]]
) -> float:
    """Score rankings of pictures by mean average precision, as GLDv2 retrieval does.

    Only the first 100 places count. A picture ranked a second time is passed over, yet its
    place still counts. A query's sum of precisions is divided by ``min(relevant, 100)``.
    Source: ``MeanAveragePrecision`` in ``metrics.py`` of the delf project.

    Args:
        rankings: By query id, pictures (ids or rows), best first. A query without one scores 0.
        relevant: By query id, the pictures that should be found; never none.

    Returns:
        The mean over all queries of ``relevant``, in [0, 1].

    Raises:
        ValueError: No queries, a query without relevant pictures, or a ranking of a query
            that ``relevant`` does not know.

    >>> mean_average_precision_at_100({"q": ["a", "x", "a", "b"]}, {"q": ["a", "b"]})
    0.75
    """
    if not relevant or not all(relevant.values()):
        raise ValueError("mAP needs queries, and of each the relevant pictures")
    if strange := rankings.keys() - relevant.keys():
        raise ValueError(f"{min(strange)} is not among the queries")
    total = sum(_average_precision(ranking, relevant[q]) for q, ranking in rankings.items())
    return total / len(relevant)


def mean_average_precision_of(relevant: NDArray[np.bool_], counts: NDArray[np.integer]) -> float:
    """Score rankings by :func:`mean_average_precision_at_100`, given as columns.

    Args:
        relevant: ``(n, k)``, whether each of the pictures that were found, best first, should
            be; none is found twice, and ``k`` is at most :data:`DEPTH`.
        counts: ``(n,)``, how many should be found, at least 1.

    >>> mean_average_precision_of(np.array([[True, False, False, True]]), np.array([2]))
    0.75
    """
    precisions = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
    totals = np.cumsum(precisions * relevant, axis=1)[:, -1]
    return _sum(totals / np.minimum(counts, DEPTH)) / len(counts)


def _average_precision(ranking: Sequence[Hashable], relevant: Collection[Hashable]) -> float:
    wanted, total = set(relevant), 0.0
    most = len(wanted)
    for place, picture in enumerate(ranking[:DEPTH], start=1):
        if picture in wanted:
            wanted.remove(picture)
            total += (most - len(wanted)) / place
    return total / min(most, DEPTH)


def group_by_size(
    truths: Mapping[str, _Shown], sizes: Mapping[str, int], bounds: Sequence[int]
) -> dict[int, dict[str, _Shown]]:
    """Group queries by the number of pictures of their landmark.

    Args:
        truths: True landmarks of every query; of several the largest counts.
        sizes: Pictures of each landmark; a query of none that has any is in no group.
        bounds: The smallest size of each group, ascending, from 1.

    Returns:
        The truths of each group, by its smallest size; a group may be empty.

    >>> group_by_size({"q": ["a"], "r": ["b"], "s": []}, {"a": 7, "b": 1}, (1, 5))
    {1: {'r': ['b']}, 5: {'q': ['a']}}
    """
    groups: dict[int, dict[str, _Shown]] = {least: {} for least in bounds}
    for query, shown in truths.items():
        if size := max((sizes.get(landmark, 0) for landmark in shown), default=0):
            groups[max(least for least in bounds if least <= size)][query] = shown
    return groups


def _count_known(truths: Mapping[str, Collection[str]]) -> int:
    known = sum(bool(landmarks) for landmarks in truths.values())
    if not known:
        raise ValueError("no query shows a landmark")
    return known


def _check(predictions: Sequence[Prediction], truths: Mapping[str, Collection[str]]) -> None:
    seen: set[str] = set()
    for answer in predictions:
        if answer.query_id not in truths:
            raise ValueError(f"{answer.query_id} is not among the queries")
        if answer.query_id in seen:
            raise ValueError(f"{answer.query_id} is answered twice")
        if not math.isfinite(answer.confidence):
            raise ValueError(f"the confidence for {answer.query_id} is not finite")
        seen.add(answer.query_id)
