"""From a confidence to the probability that the answer is right; pure.

It is learned from answers known to be right or wrong; answers to pictures of no landmark are
wrong. It consists of a logistic curve, and of the threshold of confidence above which a stated
share of the answers is right.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedder.artifacts.documents import FrozenModel

STANDARD_ERRORS = 1.0
"""Half-width of the confidence interval of a precision, in standard errors."""

_ROUNDING = 1e-4
"""Exceeds the rounding differences of one confidence between machines and batches."""

_STEPS = 100
_SMALLEST_STEP = 1e-10

Finite = Annotated[float, Field(allow_inf_nan=False)]


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

    def probability(self, confidence: float) -> float:
        """Return the probability that an answer of this confidence is right."""
        return float(logistic(np.float64(self.slope * confidence + self.intercept)))

    def known(self, confidence: float) -> bool:
        """Tell whether an answer of this confidence is accepted."""
        return confidence >= self.threshold


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
    features: NDArray[np.floating], right: NDArray[np.bool_], *, ridge: float = 1.0
) -> Curve:
    """Fit a logistic curve by Newton's method, to the maximum of the penalized likelihood.

    Args:
        features: ``(n, f)``, finite.
        right: ``(n,)``; both values must occur.
        ridge: Weight of the penalty ``ridge / 2 * |weights|²`` on the weights of features
            scaled to a standard deviation of 1. With 0 the classic estimate, which does not
            exist where the features tell right from wrong without fail.

    Raises:
        ValueError: The shapes differ, or only one sort of answer occurs.
    """
    if features.ndim != 2 or right.shape != features.shape[:1]:
        raise ValueError(f"shapes differ: {features.shape} and {right.shape}")
    if right.all() or not right.any():
        raise ValueError("a curve needs right and wrong answers")
    center, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    design = np.column_stack([(features - center) / scale, np.ones(len(features))])
    penalty = np.diag([ridge] * features.shape[1] + [0.0])
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        probability = logistic(design @ weights)
        gradient = design.T @ (probability - right) + penalty @ weights
        curvature = design.T @ (design * (probability * (1 - probability))[:, None]) + penalty
        step = np.linalg.lstsq(curvature, gradient)[0]  # a feature may be constant
        weights -= step
        if np.abs(step).max() < _SMALLEST_STEP:
            break
    own = weights[:-1] / scale
    return Curve(own, float(weights[-1] - own @ center))


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
