"""The curve and the threshold, against solutions that can be computed otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from index.ranking.calibration import (
    LearnedConfidence,
    choose_threshold,
    fit_logistic,
    logistic,
)
from index.ranking.signals import SIGNALS, SIGNS, Evidence
from tests.factories import calibration


def test_one_binary_feature_gives_the_log_odds() -> None:
    """The classic estimate has a closed form: the log odds of each group."""
    feature = np.repeat([0.0, 1.0], [50, 80])
    right = np.concatenate([np.arange(50) < 10, np.arange(80) < 60])
    curve = fit_logistic(feature[:, None], right, ridge=0.0)
    assert curve.intercept == pytest.approx(np.log(10 / 40), abs=1e-9)
    assert curve.weights[0] == pytest.approx(np.log(60 / 20) - np.log(10 / 40), abs=1e-9)


def test_the_gradient_of_the_penalized_likelihood_is_zero() -> None:
    """Computed by finite differences of the likelihood, whatever the method was."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(300, 2)) * [3.0, 0.1] + [5.0, -2.0]
    right = logistic(features @ [0.7, -9.0] - 21.0) > rng.random(300)
    curve = fit_logistic(features, right, ridge=1.0)
    scale = features.std(axis=0)

    def loss(weights: np.ndarray, intercept: float) -> float:
        margin = np.where(right, 1, -1) * (features @ weights + intercept)
        return float(np.logaddexp(0, -margin).sum() + ((weights * scale) ** 2).sum() / 2)

    least = loss(curve.weights, curve.intercept)
    for place in range(3):
        for step in (-1e-3, 1e-3):
            moved = np.append(curve.weights, curve.intercept)
            moved[place] += step
            assert loss(moved[:2], moved[2]) > least


def test_answers_that_are_told_apart_without_fail_give_a_finite_curve() -> None:
    """Where the classic estimate does not exist, the ridge decides."""
    curve = fit_logistic(np.array([[0.0], [0.1], [0.9], [1.0]]), np.array([0, 0, 1, 1]) > 0)
    assert 0 < curve.weights[0] < 100


def test_one_sort_of_answers_is_refused() -> None:
    """There is no curve through them."""
    with pytest.raises(ValueError, match="right and wrong"):
        fit_logistic(np.ones((3, 1)), np.ones(3, np.bool_))


def test_the_threshold_is_the_smallest_that_is_believed_to_reach_the_target() -> None:
    """100 right, then half and half: 0.9 is reached before the share itself falls to it."""
    confidences = np.linspace(1.0, 0.0, 200)
    right = np.arange(200) < 100
    right[101::2] = True
    found = choose_threshold(confidences, right, 0.9)
    assert found is not None
    kept = right[confidences >= found.confidence]
    assert found.precision == kept.mean()
    assert found.answered == len(kept) / 200
    assert 0.9 < kept.mean() < 0.95
    assert choose_threshold(confidences, ~right, 0.9) is None


def test_equal_confidences_are_believed_together() -> None:
    """Taking the right half of a tie would flatter the precision."""
    confidences = np.repeat([0.9, 0.5], [50, 50])
    right = np.concatenate([np.ones(75, np.bool_), np.zeros(25, np.bool_)])
    found = choose_threshold(confidences, right, 0.8)
    assert found is not None
    assert found.answered == 0.5
    assert 0.89 < found.confidence < 0.9


@pytest.mark.parametrize("gap", [0.3, 1e-3, 1e-5, 1e-7])
def test_a_threshold_lies_between_two_confidences(gap: float) -> None:
    """The same answers are believed when their last digits come out differently."""
    lowest = 0.6
    confidences = np.array([0.9, 0.8, lowest, lowest - gap])
    found = choose_threshold(confidences, np.array([True, True, True, False]), 0.75)
    assert found is not None
    assert lowest - gap < found.confidence < lowest
    assert lowest - found.confidence < 1e-3


def test_a_calibration_speaks_of_one_confidence() -> None:
    """The probability follows the curve, and the threshold itself is believed."""
    one = calibration()
    assert one.probability(0.5) == 0.5
    assert one.probability(1000.0) == 1.0
    assert one.known(0.6)
    assert not one.known(0.5999)


def test_a_weight_of_the_wrong_sign_is_left_out() -> None:
    """The others are as if the feature did not exist; a constant one has no weight either."""
    rng = np.random.default_rng(2)
    features = rng.normal(size=(400, 4))
    features[:, 3] = 2.0
    right = logistic(features @ [2.0, -1.0, 0.5, 0.0]) > rng.random(400)
    free, signed = fit_logistic(features, right), fit_logistic(features, right, signs=(1, 1, -1, 1))
    assert (np.sign(free.weights) == [1, -1, 1, 0]).all()
    alone = fit_logistic(features[:, :1], right)
    assert signed.weights == pytest.approx([alone.weights[0], 0, 0, 0])
    assert signed.intercept == pytest.approx(alone.intercept)
    kept = fit_logistic(features, right, signs=(0, -1, 1, 0))
    assert kept.weights == pytest.approx(free.weights)


def test_a_larger_cosine_never_lowers_a_learned_probability() -> None:
    """Whatever was learned, here from answers for which more of everything was worse."""
    rng = np.random.default_rng(5)
    features = rng.random((500, len(SIGNALS)))
    right = logistic(5 - features @ rng.normal(2, 3, len(SIGNALS))) > rng.random(500)
    curve = fit_logistic(features, right, signs=tuple(SIGNS.values()))
    learned = LearnedConfidence(
        weights=dict(zip(SIGNALS, curve.weights.tolist(), strict=True)),
        intercept=curve.intercept,
        threshold=0.5,
        precision=1.0,
        answered=1.0,
        gap_gain=0.0,
        better=1.0,
    )
    own = np.array([0, 1, 1, 0, 1], np.bool_)
    for _ in range(50):
        similarities = np.sort(rng.uniform(-0.5, 0.9, 5))[::-1].astype(np.float32)
        found = []
        for more in np.linspace(0.0, 1.0, 9):
            raised = similarities.copy()
            raised[1] += np.float32(more)
            evidence = Evidence(raised, own, 0.5, 7, 0.4, 0.3)
            found.append(learned.probability(evidence.signals()))
        assert (np.diff(found) >= 0).all()


def test_weights_of_no_signal_are_refused() -> None:
    """As those of a gallery that a later program calibrated are."""
    with pytest.raises(ValidationError, match="no signal novelty"):
        LearnedConfidence(
            weights={"novelty": 1.0},
            intercept=0.0,
            threshold=0.5,
            precision=1.0,
            answered=1.0,
            gap_gain=0.0,
            better=1.0,
        )
