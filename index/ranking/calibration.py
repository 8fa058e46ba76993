"""From a confidence to the probability that the answer is right; pure.

Everything is learned from answers that are known to be right or wrong, those to pictures of no
landmark among the wrong ones: a logistic curve, and the confidence from which a stated share
of the answers is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

RIDGE = 1.0
"""Precision of the prior on standardized weights: keeps them finite where nothing overlaps."""

STANDARD_ERRORS = 1.0
"""How far below its estimate a precision is believed: a threshold is seldom too low then."""

_ROUNDING = 1e-4
"""More than the same confidence differs by from one computation to another."""

_STEPS = 100
_SMALLEST_STEP = 1e-10

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Calibration(BaseModel):
    """What a confidence of one gallery is worth.

    Attributes:
        slope: Of the logistic curve, above 0.
        intercept: Of the logistic curve.
        threshold: From this confidence on an answer is believed.
        precision_target: The share of right answers among them that was asked for.
        precision: The share that was found among the answers to the calibration's queries.
        answered: The share of those queries that were above the threshold.
        queries: How many there were.
        unknown: How many of them show no landmark.
        right: How many were answered rightly.
        data: Where they came from.
        build_id: The gallery that answered them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
        """Return the chance that an answer of this confidence is right."""
        return float(logistic(np.float64(self.slope * confidence + self.intercept)))

    def known(self, confidence: float) -> bool:
        """Say whether an answer of this confidence is believed."""
        return confidence >= self.threshold


@dataclass(frozen=True, slots=True)
class Curve:
    """A fitted logistic curve: the probability is ``logistic(x @ weights + intercept)``.

    Attributes:
        weights: ``(f,)`` float64.
        intercept: Added to the weighted sum.
    """

    weights: NDArray[np.float64]
    intercept: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """A confidence from which answers are believed, and what that gave where it was chosen.

    Attributes:
        confidence: The smallest that is believed.
        precision: Share of right answers among the believed ones.
        answered: Share of all answers that are believed.
    """

    confidence: float
    precision: float
    answered: float


def fit_logistic(
    features: NDArray[np.floating], right: NDArray[np.bool_], *, ridge: float = RIDGE
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
        chance = logistic(design @ weights)
        gradient = design.T @ (chance - right) + penalty @ weights
        curvature = design.T @ (design * (chance * (1 - chance))[:, None]) + penalty
        step = np.linalg.lstsq(curvature, gradient)[0]  # a feature may be constant
        weights -= step
        if np.abs(step).max() < _SMALLEST_STEP:
            break
    own = weights[:-1] / scale
    return Curve(own, float(weights[-1] - own @ center))


def choose_threshold(
    confidences: NDArray[np.floating], right: NDArray[np.bool_], target: float
) -> Threshold | None:
    """Find the smallest confidence from which a share ``target`` of the answers is right.

    It is named a little lower, since the same answer's confidence differs in its last digits from
    machine to machine and from batch to batch.

    A precision counted on few answers is believed less: its lower bound is what must reach the
    target (Wilson, 1927, at :data:`STANDARD_ERRORS`). Answers of one confidence are believed
    together or not at all.

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
    """Return Wilson's lower bound of shares that were counted on so many trials.

    Args:
        shares: ``(n,)`` in [0, 1].
        counts: ``(n,)``, at least 1.

    >>> lower_bound(np.array([1.0]), np.array([3])).tolist()
    [0.75]
    """
    z2 = STANDARD_ERRORS**2
    spread = np.sqrt(shares * (1 - shares) / counts + z2 / (4 * counts**2))
    bounds: NDArray[np.float64] = (shares + z2 / (2 * counts) - math.sqrt(z2) * spread) / (
        1 + z2 / counts
    )
    return bounds


def logistic(x: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """Return ``1 / (1 + exp(-x))`` without overflow.

    >>> logistic(np.array([-1000.0, 0.0])).tolist()
    [0.0, 0.5]
    """
    half: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * x))
    return half
