"""From the neighbors of a query to a landmark; pure.

Landmarks are the codes of the catalog, whose order is that of the landmark ids: a smaller
code is a smaller id.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedder.artifacts.documents import FrozenModel

MOST_RERANKED = 1000
"""More would take longer than the search."""

Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Ranking(FrozenModel):
    """How the neighbors of a query become an answer; set when a gallery is built.

    Both penalties are subtracted and need distractors, pictures of no landmark: a picture
    similar to them gets a lower score. A strength of 1 is the published form, 0 is none.

    Attributes:
        rule: ``top1``: the landmark of the nearest picture, its cosine the confidence;
            ``vote``: each of the nearest pictures votes for its landmark, see :func:`rank`.
        neighbors: How many pictures vote.
        power: Exponent of their cosines.
        reranked: How many of the nearest pictures are put into another order before the rule
            sees them, see :func:`index.ranking.rerank.rerank`; 0 for none. Cosines stay, and a
            query of several pictures is not reranked.
        gallery_penalty: Strength of the penalty B of each gallery picture, subtracted from
            its similarity before the nearest are chosen.
        gallery_distractors: B is the mean cosine to this many distractors nearest to the
            gallery picture.
        query_penalty: Strength of the penalty C of a query, subtracted from its confidence.
        query_distractors: C is the mean cosine to this many distractors nearest to the query;
            as many as there are, or more, takes all of them.
    """

    rule: Literal["top1", "vote"] = "top1"
    neighbors: int = Field(default=5, ge=1)
    power: float = Field(default=8.0, gt=0, allow_inf_nan=False)
    reranked: int = Field(default=0, ge=0, le=MOST_RERANKED)
    gallery_penalty: Strength = 0.0
    gallery_distractors: int = Field(default=5, ge=1)
    query_penalty: Strength = 0.0
    query_distractors: int = Field(default=10, ge=1)

    @property
    def voters(self) -> int:
        """How many of the nearest pictures decide."""
        return self.neighbors if self.rule == "vote" else 1

    @property
    def penalized(self) -> bool:
        """Whether it needs distractors."""
        return bool(self.gallery_penalty or self.query_penalty)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A landmark, by its code in the catalog, and its score: larger is surer."""

    landmark: int
    score: float


def top1(landmarks: NDArray[np.integer], similarities: NDArray[np.floating]) -> Ranked:
    """Return the landmark of the nearest neighbor, with its cosine as the score.

    The arguments are those of :func:`vote`.

    Raises:
        ValueError: The two arrays differ in shape, or there is no neighbor.

    >>> top1(np.array([7, 2]), np.array([0.75, 0.5], np.float32))
    Ranked(landmark=7, score=0.75)
    """
    _check(landmarks, similarities)
    if not landmarks.size:
        raise ValueError("there is no neighbor")
    return Ranked(int(landmarks[0]), float(similarities[0]))


def vote(
    landmarks: NDArray[np.integer],
    similarities: NDArray[np.floating],
    *,
    power: float = 1.0,
    floor: float = 0.0,
    limit: int = 5,
) -> list[Ranked]:
    """Turn one query's neighbors into a ranking of landmarks.

    Each neighbor gives its cosine similarity, raised to ``power``, to its own landmark;
    neighbors below ``floor`` do not vote. Ties go to the smaller landmark, so equal inputs
    rank equally.

    Args:
        landmarks: ``(k,)``, the landmark of each neighbor, nearest first.
        similarities: ``(k,)``, cosine in ``[-1, 1]``, aligned with ``landmarks``.
        power: Above 1, near neighbors count for more.
        floor: Cosine below which a neighbor is ignored, at least 0.
        limit: Longest ranking to return.

    Returns:
        At most ``limit`` landmarks, strongest first; empty when every neighbor
        lies below ``floor``. Scores are sums of cosines, so they may exceed 1.

    Raises:
        ValueError: The two arrays differ in shape, or ``floor`` is negative.

    >>> vote(np.array([7, 2, 2]), np.array([0.75, 0.5, 0.5], np.float32), limit=1)
    [Ranked(landmark=2, score=1.0)]
    """
    _check(landmarks, similarities)
    if floor < 0:
        raise ValueError("floor must not be negative")
    voting = similarities >= floor
    votes = similarities[voting].astype(np.float64) ** power
    found, voter = np.unique(landmarks[voting], return_inverse=True)
    scores = np.bincount(voter, weights=votes, minlength=found.size)
    order = np.lexsort((found, -scores))[:limit]
    return [Ranked(int(found[place]), float(scores[place])) for place in order]


def rank(
    landmarks: NDArray[np.integer], similarities: NDArray[np.float32], ranking: Ranking
) -> Ranked:
    """Answer one query by the rule of ``ranking``.

    The score of a vote is the power mean of the cosines over all voters, those of other
    landmarks counted as zero: it orders landmarks as the sum of votes does, and is on the scale
    of cosines, which penalties can be subtracted from. Where there are fewer neighbors than
    voters, all of them vote. Where no neighbor has a positive similarity, the answer is the
    landmark of the nearest, with score 0.

    Args:
        landmarks: ``(k,)``, the landmark of each neighbor, nearest first; ``k`` at least 1, and
            less than :attr:`Ranking.voters` only where the gallery has no more rows.
        similarities: ``(k,)``, aligned with ``landmarks``: cosines, less the penalty of the
            gallery where there is one.
        ranking: Its penalties are not applied here.

    >>> ranking = Ranking(rule="vote", neighbors=4, power=2)
    >>> rank(np.array([7, 2, 2, 5]), np.array([0.75, 0.625, 0.625, 0.25], np.float32), ranking)
    Ranked(landmark=2, score=0.4419417382415922)
    """
    nearest = top1(landmarks, similarities)
    if ranking.rule == "top1":
        return nearest
    largest = float(similarities[: ranking.voters].max())
    if largest <= 0:
        return Ranked(nearest.landmark, 0.0)
    best = _votes(landmarks, similarities, ranking)[0]
    mean = best.score / len(similarities[: ranking.voters])
    return Ranked(best.landmark, float(largest * mean ** (1 / ranking.power)))


def nearest_of_landmarks(
    landmarks: NDArray[np.integer], similarities: NDArray[np.float32], ranking: Ranking
) -> NDArray[np.intp]:
    """Return the place of the nearest neighbor of each landmark, best landmark first.

    The first landmark is that of :func:`rank`, which has the same arguments. Landmarks that got
    votes stand in the order of these; the others follow in the order of their nearest neighbor.

    >>> ranking = Ranking(rule="vote", neighbors=3, power=1)
    >>> similarities = np.array([0.75, 0.5, 0.5, 0.25], np.float32)
    >>> nearest_of_landmarks(np.array([7, 2, 2, 5]), similarities, ranking).tolist()
    [1, 0, 3]
    """
    places: NDArray[np.intp] = np.sort(np.unique(landmarks, return_index=True)[1])
    if ranking.rule == "top1" or similarities[: ranking.voters].max() <= 0:
        return places
    votes = [ranked.landmark for ranked in _votes(landmarks, similarities, ranking)]
    order = {landmark: place for place, landmark in enumerate(votes)}
    last = len(order)
    turns = [order.get(landmark, last) for landmark in landmarks[places].tolist()]
    return places[np.argsort(turns, kind="stable")]


def _votes(
    landmarks: NDArray[np.integer], similarities: NDArray[np.float32], ranking: Ranking
) -> list[Ranked]:
    """Count votes as shares of the largest cosine, so that powers neither vanish nor overflow."""
    cosines = similarities[: ranking.voters].astype(np.float64)
    shares = cosines / cosines.max()
    voters = landmarks[: ranking.voters]
    return vote(voters, shares, power=ranking.power, limit=ranking.voters)


def mean_of_largest(cosines: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Average the ``count`` largest cosines to distractors of each row, ``(n, m)``: a penalty.

    A count above ``m`` means all.

    >>> mean_of_largest(np.array([[0.5, 0.25, 1.0]], np.float32), 2).tolist()
    [0.75]
    """
    m = cosines.shape[1]
    if count < m:
        cosines = np.partition(cosines, m - count, axis=1)[:, m - count :]
    means: NDArray[np.float32] = cosines.mean(axis=1)
    return means


def _check(landmarks: NDArray[np.integer], similarities: NDArray[np.floating]) -> None:
    if landmarks.ndim != 1 or landmarks.shape != similarities.shape:
        raise ValueError(f"shapes differ: {landmarks.shape} and {similarities.shape}")
