"""From a confidence, or several signals, to the probability that the answer is right; pure.

It is learned from answers known to be right or wrong; answers to pictures of no landmark are
wrong. It consists of a logistic curve, and of the threshold above which a stated share of the
answers is right.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from embedder.artifacts.documents import FrozenModel
from index.ranking.ranking import Ranking
from index.ranking.signals import SIGNALS

STANDARD_ERRORS = 1.0
"""Half-width of the confidence interval of a precision, in standard errors."""

_ROUNDING = 1e-4
"""Exceeds the rounding differences of one confidence between machines and batches."""

_STEPS = 100
_SMALLEST_STEP = 1e-10

Finite = Annotated[float, Field(allow_inf_nan=False)]


class LearnedConfidence(FrozenModel):
    """A probability learned from several signals of an answer.

    Attributes:
        weights: Of the signals, by name; those left out have none.
        intercept: Of the logistic curve.
        threshold: An answer of at least this probability is accepted as known.
        precision: Share of right answers among the accepted ones of the calibration's queries.
        answered: Share of those queries whose answer was accepted.
        gap_gain: By how much it raised the GAP of queries that it was not fitted to, in the mean.
        better: Share of the halves of the queries in which it did.
    """

    weights: dict[str, Finite]
    intercept: Finite
    threshold: Annotated[float, Field(ge=0, le=1)]
    precision: Annotated[float, Field(ge=0, le=1)]
    answered: Annotated[float, Field(ge=0, le=1)]
    gap_gain: Finite
    better: Annotated[float, Field(ge=0, le=1)]

    @field_validator("weights")
    @classmethod
    def _signals_are_known(cls, weights: dict[str, float]) -> dict[str, float]:
        if unknown := weights.keys() - set(SIGNALS):
            raise ValueError(f"there is no signal {min(unknown)}")
        return weights

    def probability(self, signals: NDArray[np.float64]) -> float:
        """Return the probability that an answer with these signals, ``(s,)``, is right."""
        weights = [self.weights.get(name, 0.0) for name in SIGNALS]
        return float(logistic(np.float64(signals @ np.array(weights) + self.intercept)))

    def known(self, probability: float) -> bool:
        """Tell whether an answer of this probability is accepted."""
        return probability >= self.threshold


class Calibration(FrozenModel):
    """The calibration of the confidences of one gallery.

    Attributes:
        slope: Of the logistic curve, above 0.
        intercept: Of the logistic curve.
        threshold: An answer of at least this confidence is accepted as known.
        precision_target: Requested share of right answers among the accepted ones.
        precision: That share among the answers to the calibration's queries.
        answered: Share of those queries whose answer was accepted.
        queries: Number of queries.
        unknown: Number of queries that show no landmark.
        right: Number of right answers.
        data: Where they came from.
        build_id: The gallery that answered them.
        learned: A probability from several signals, which then takes the place of the curve and
            its threshold; ``None`` where it judged queries no better. An answer from a part of
            the gallery has only the curve.
    """

    slope: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    intercept: Finite
    threshold: Finite
    precision_target: Annotated[float, Field(gt=0, lt=1)]
    precision: Annotated[float, Field(ge=0, le=1)]
    answered: Annotated[float, Field(ge=0, le=1)]
    queries: int = Field(ge=1)
    unknown: int = Field(ge=0)
    right: int = Field(ge=0)
    data: str
    build_id: str
    learned: LearnedConfidence | None = None

    @property
    def penalized(self) -> bool:
        """Whether it needs distractors."""
        weights = self.learned.weights if self.learned else {}
        return any(name.endswith("_penalty") for name in weights)

    def probability(self, confidence: float) -> float:
        """Return the probability that an answer of this confidence is right."""
        return float(logistic(np.float64(self.slope * confidence + self.intercept)))

    def known(self, confidence: float) -> bool:
        """Tell whether an answer of this confidence is accepted."""
        return confidence >= self.threshold


def needs_distractors(ranking: Ranking, calibration: Calibration | None) -> bool:
    """Tell whether answers by a ranking and a calibration need distractors."""
    return ranking.penalized or (calibration is not None and calibration.penalized)


@dataclass(frozen=True, slots=True)
class Curve:
    """A fitted logistic curve: the probability is ``logistic(x @ weights + intercept)``."""

    weights: NDArray[np.float64]
    intercept: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold of confidence, and its metrics on the answers that it was chosen by.

    Attributes:
        confidence: The smallest that is accepted.
        precision: Share of right answers among the accepted ones.
        answered: Share of all answers that are accepted.
    """

    confidence: float
    precision: float
    answered: float


def fit_logistic(
    features: NDArray[np.floating],
    right: NDArray[np.bool_],
    *,
    ridge: float = 1.0,
    signs: Sequence[int] = (),
) -> Curve:
    """Fit a logistic curve by Newton's method, to the maximum of the penalized likelihood.

    Args:
        features: ``(n, f)``, finite.
        right: ``(n,)``; both values must occur.
        ridge: Weight of the penalty ``ridge / 2 * |weights|²`` on the weights of features
            scaled to a standard deviation of 1. With 0 the classic estimate, which does not
            exist where the features tell right from wrong without fail.
        signs: Of each feature 1 or -1, the sign that its weight must have, or 0 for any; by
            default all 0. A feature that the others leave the wrong sign to gets the weight 0,
            the worst of several first.

    Raises:
        ValueError: The shapes differ, or only one sort of answer occurs.
    """
    if features.ndim != 2 or right.shape != features.shape[:1]:
        raise ValueError(f"shapes differ: {features.shape} and {right.shape}")
    if right.all() or not right.any():
        raise ValueError("a curve needs right and wrong answers")
    wanted = np.array(signs) if signs else np.zeros(features.shape[1])
    center, scale = features.mean(axis=0), features.std(axis=0)
    kept, scale = np.flatnonzero(scale > 0), np.where(scale > 0, scale, 1.0)
    scaled = (features - center) / scale
    while True:
        found = _newton(scaled[:, kept], right, ridge)
        agreement = wanted[kept] * found[:-1]
        if not kept.size or agreement.min() >= 0:
            break
        kept = np.delete(kept, agreement.argmin())
    weights = np.zeros(features.shape[1])
    weights[kept] = found[:-1] / scale[kept]
    return Curve(weights, float(found[-1] - weights @ center))


def _newton(
    features: NDArray[np.floating], right: NDArray[np.bool_], ridge: float
) -> NDArray[np.float64]:
    """Return the weights of scaled features, ``(n, f)``, and the intercept, ``(f + 1,)``."""
    design = np.column_stack([features, np.ones(len(features))])
    penalty = np.diag([ridge] * features.shape[1] + [0.0])
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        probability = logistic(design @ weights)
        gradient = design.T @ (probability - right) + penalty @ weights
        curvature = design.T @ (design * (probability * (1 - probability))[:, None]) + penalty
        step = np.linalg.lstsq(curvature, gradient)[0]  # features may be equal
        weights -= step
        if np.abs(step).max() < _SMALLEST_STEP:
            break
    return weights


def choose_threshold(
    confidences: NDArray[np.floating], right: NDArray[np.bool_], target: float
) -> Threshold | None:
    """Find the smallest threshold above which a share ``target`` of the answers is right.

    The result is a little lower, since the last digits of a confidence differ between machines
    and batches.

    The lower bound of the precision (Wilson, 1927, at :data:`STANDARD_ERRORS`) has to reach the
    target, so that few answers prove little. Answers of equal confidence are accepted together
    or not at all.

    Args:
        confidences: ``(n,)``, finite.
        right: ``(n,)``.
        target: In (0, 1).

    Returns:
        ``None`` where no threshold reaches the target.

    >>> choose_threshold(np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 1, 1, 0]) > 0, 0.7)
    Threshold(confidence=0.6999, precision=1.0, answered=0.75)
    """
    order = np.argsort(-confidences, kind="stable")
    sorted_confidences = confidences[order]
    counts = np.arange(1, order.size + 1)
    precisions = np.cumsum(right[order]) / counts
    last = np.append(sorted_confidences[1:] != sorted_confidences[:-1], True)
    reached = np.flatnonzero(last & (lower_bound(precisions, counts) >= target))
    if not reached.size:
        return None
    end = int(reached[-1])
    lowest = float(sorted_confidences[end])
    next_lower = float(sorted_confidences[end + 1]) if end + 1 < order.size else -math.inf
    threshold = max(lowest - _ROUNDING, (lowest + next_lower) / 2)
    return Threshold(threshold, float(precisions[end]), (end + 1) / order.size)


def lower_bound(shares: NDArray[np.float64], counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return Wilson's lower bound of shares in [0, 1] that were counted on so many trials.

    >>> lower_bound(np.array([1.0]), np.array([3])).tolist()
    [0.75]
    """
    z2 = STANDARD_ERRORS**2
    spread = np.sqrt(shares * (1 - shares) / counts + z2 / (4 * counts**2))
    center = shares + z2 / (2 * counts)
    bounds: NDArray[np.float64] = (center - math.sqrt(z2) * spread) / (1 + z2 / counts)
    return bounds


def logistic(x: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """Return ``1 / (1 + exp(-x))`` without overflow.

    >>> logistic(np.array([-1000.0, 0.0])).tolist()
    [0.0, 0.5]
    """
    half: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * x))
    return half
