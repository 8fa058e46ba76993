"""What a calibration learns from answers, and when it takes the signals."""

from __future__ import annotations

import numpy as np
import pytest

from embedder.errors import GalleryError
from index.evaluation.fit import (
    BETTER,
    LabeledAnswers,
    fit_calibration,
    fit_strength,
    judge_learned,
)
from index.evaluation.halves import HALVINGS, halve
from index.ranking.calibration import logistic
from index.ranking.signals import SIGNALS


def drawn(n: int, seed: int = 3, **weights: float) -> LabeledAnswers:
    """Draw signals in [0, 1], and answers that are right by the log odds that ``weights`` give.

    The score is the cosine; half of the wrong answers are to pictures of no landmark.
    """
    rng = np.random.default_rng(seed)
    signals = rng.random((n, len(SIGNALS)))
    by_name = dict(zip(SIGNALS, signals.T, strict=True))
    odds = sum(weight * by_name[name] for name, weight in weights.items())
    right = logistic(odds - np.median(odds)) > rng.random(n)
    return LabeledAnswers(by_name["cosine"], signals, right, right | (rng.random(n) < 0.5))


def test_the_strength_of_the_query_penalty_is_fitted() -> None:
    """Where right and wrong are drawn from a curve of score less half the penalty."""
    answers = drawn(40_000, cosine=12.0, query_penalty=-6.0)
    assert fit_strength(answers) == pytest.approx(0.5, abs=0.02)
    assert fit_strength(drawn(5000, cosine=12.0, query_penalty=6.0)) == 0.0
    assert fit_strength(drawn(5000, cosine=12.0, query_penalty=-24.0)) == 1.0
    strength, calibration = fit_calibration(answers, 0.95, data="d", build_id="b")
    assert strength == fit_strength(answers)
    assert calibration.slope == pytest.approx(12, rel=0.03)
    middle = float(np.median(12 * answers.scores - 6 * answers.penalties)) / 12
    assert calibration.probability(middle) == pytest.approx(0.5, abs=0.04)


def test_without_distractors_there_is_no_query_penalty() -> None:
    """The signal is 0 for all, and gets no weight."""
    answers = drawn(500, cosine=12.0, margin=6.0)
    answers.signals[:, -2:] = 0.0
    strength, calibration = fit_calibration(answers, 0.8, data="d", build_id="b")
    assert strength == 0.0
    assert calibration.learned is not None
    assert not calibration.penalized
    assert set(calibration.learned.weights).isdisjoint(SIGNALS[-2:])


def test_one_sort_of_answers_is_refused() -> None:
    """Nothing can be learned from them."""
    answers = drawn(100, cosine=12.0)
    answers.right[:] = True
    with pytest.raises(GalleryError, match="all right or all wrong"):
        fit_calibration(answers, 0.9, data="d", build_id="b")


def test_signals_that_tell_more_are_learned() -> None:
    """The weights are those of the curve that answers were drawn from; others are nearly 0."""
    answers = drawn(20_000, cosine=8.0, margin=6.0, density=-5.0)
    _, calibration = fit_calibration(answers, 0.8, data="d", build_id="b")
    learned = calibration.learned
    assert learned is not None
    expected = {"cosine": 8.0, "margin": 6.0, "density": -5.0}
    for name in SIGNALS:
        assert learned.weights.get(name, 0.0) == pytest.approx(expected.get(name, 0.0), abs=0.4)
    assert learned.better > BETTER
    assert learned.gap_gain > 0.01
    found = [learned.probability(signals) for signals in answers.signals]
    accepted = np.array([learned.known(probability) for probability in found])
    assert answers.right[accepted].mean() == learned.precision >= 0.8
    assert accepted.mean() == learned.answered > calibration.answered
    assert np.mean(found) == pytest.approx(answers.right.mean(), abs=1e-3)


def test_signals_that_tell_nothing_are_not_learned() -> None:
    """What the confidence says alone is the better calibration."""
    answers = drawn(600, cosine=9.0)
    assert (judge_learned(answers) > 0).mean() < BETTER
    _, calibration = fit_calibration(answers, 0.9, data="d", build_id="b")
    assert calibration.learned is None


def test_what_is_fitted_to_a_half_is_judged_by_the_other() -> None:
    """Signals drawn anew for every answer help the answers that they were fitted to, no others."""
    answers = drawn(60, cosine=4.0)
    assert judge_learned(answers).mean() < 0
    assert len(judge_learned(answers)) == 2 * HALVINGS


def test_halves_are_disjoint_and_each_judges_once() -> None:
    """Together they are all answers, also of an odd number."""
    pairs = list(halve(7, 5))
    assert len(pairs) == 10
    for one, other in pairs:
        assert sorted([*one, *other]) == list(range(7))
        assert abs(len(one) - len(other)) == 1
    for (one, other), (third, fourth) in zip(pairs[::2], pairs[1::2], strict=True):
        assert one.tolist() == fourth.tolist()
        assert other.tolist() == third.tolist()
