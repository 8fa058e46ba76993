"""Fit a calibration to answers that are known to be right or wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.errors import GalleryError
from index.evaluation.halves import halve
from index.evaluation.metrics import gap_of
from index.evaluation.queries import measure_answers
from index.evaluation.truths import Truths
from index.gallery.gallery import Gallery
from index.ranking.calibration import (
    Calibration,
    Curve,
    LearnedConfidence,
    choose_threshold,
    fit_logistic,
    logistic,
)
from index.ranking.signals import SIGNALS, SIGNS

PUBLISHED_STRENGTH = 1.0
"""Upper bound of the fitted query penalty: see :class:`index.ranking.ranking.Ranking`."""

BETTER = 0.8
"""Share of the halves that a learned confidence must judge better than the plain one."""

_MOST_JUDGED = 10_000
_PENALTY = SIGNALS.index("query_penalty")


@dataclass(frozen=True, slots=True, eq=False)
class LabeledAnswers:
    """Answers that are known to be correct or wrong.

    Attributes:
        scores: ``(n,)`` confidences without the penalty of the query.
        signals: ``(n, s)``, see :data:`index.ranking.signals.SIGNALS`.
        right: ``(n,)``, whether the answer is correct.
        known: ``(n,)``, whether the query shows a landmark.
    """

    scores: NDArray[np.float64]
    signals: NDArray[np.float64]
    right: NDArray[np.bool_]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def penalties(self) -> NDArray[np.float64]:
        """The penalty C of each query, of strength 1; zeros without distractors."""
        return self.signals[:, _PENALTY]

    def take(self, places: NDArray[np.int64]) -> LabeledAnswers:
        """Return some of the answers, in the order of ``places``."""
        right, known = self.right[places], self.known[places]
        return LabeledAnswers(self.scores[places], self.signals[places], right, known)

    def gap(self, confidences: NDArray[np.float64]) -> float:
        """Return the GAP of these answers by other confidences, ``(n,)``."""
        return gap_of(confidences, self.right, int(self.known.sum()))


def label_answers(gallery: Gallery, vectors: NDArray[np.float32], truths: Truths) -> LabeledAnswers:
    """Answer ``(n, d)`` vectors by the gallery's ranking and compare with ``n`` truths.

    The penalty of the query is kept apart from the score.
    """
    plain = gallery.manifest.ranking.model_copy(update={"query_penalty": 0.0})
    answers, signals = measure_answers(gallery, plain, vectors)
    right = truths.shows(answers.landmarks)
    return LabeledAnswers(answers.confidences, signals, right, truths.known)


def fit_calibration(
    answers: LabeledAnswers, target: float, *, data: str, build_id: str
) -> tuple[float, Calibration]:
    """Fit a calibration, as :func:`fit_curve`, and learn from several signals where that is better.

    It is where it raises the GAP of at least :data:`BETTER` of many halves of the queries.
    """
    strength, calibration = fit_curve(answers, target, data=data, build_id=build_id)
    gains = judge_learned(answers)
    if (gains > 0).mean() < BETTER:
        return strength, calibration
    learned = fit_learned(answers, target, gains)
    return strength, calibration.model_copy(update={"learned": learned})


def fit_curve(
    answers: LabeledAnswers, target: float, *, data: str, build_id: str
) -> tuple[float, Calibration]:
    """Fit curve and threshold of the confidence, and with distractors the query penalty.

    The precision of the threshold must reach ``target``; ``data`` and ``build_id`` are recorded.

    Returns:
        The strength of the penalty, and the calibration of the confidences with it.

    Raises:
        GalleryError: The confidence does not separate correct from wrong answers, or no
            threshold reaches the target.
    """
    if answers.right.all() or not answers.right.any():
        raise GalleryError("the answers are all right or all wrong: nothing can be fitted")
    strength = fit_strength(answers)
    confidences = answers.scores - strength * answers.penalties
    curve = fit_logistic(confidences[:, None], answers.right)
    if curve.weights[0] <= 0:
        reason = "correct answers are no more confident than wrong ones"
        raise GalleryError(f"{reason}: this cannot be calibrated")
    chosen = choose_threshold(confidences, answers.right, target)
    if chosen is None:
        raise GalleryError(
            f"no threshold makes {target:.0%} of the answers right: lower it or train longer"
        )
    return strength, Calibration(
        slope=float(curve.weights[0]),
        intercept=curve.intercept,
        threshold=chosen.confidence,
        precision_target=target,
        precision=chosen.precision,
        answered=chosen.answered,
        queries=len(answers),
        unknown=int((~answers.known).sum()),
        right=int(answers.right.sum()),
        data=data,
        build_id=build_id,
    )


def fit_strength(answers: LabeledAnswers) -> float:
    """Fit the strength of the query penalty; 0 without distractors.

    A logistic regression on score and penalty weighs the two. The ratio of the weights is the
    strength, up to the published one: few queries justify no more, and a stronger penalty costs
    more where it is wrong. A negative penalty is left out.
    """
    if not answers.penalties.any():
        return 0.0
    both = fit_logistic(np.column_stack([answers.scores, answers.penalties]), answers.right)
    own, penalty = both.weights
    return float(np.clip(-penalty / own, 0.0, PUBLISHED_STRENGTH)) if own > 0 else 0.0


def fit_signals(answers: LabeledAnswers) -> Curve:
    """Fit a logistic curve to the signals of answers, right and wrong ones among them."""
    return fit_logistic(answers.signals, answers.right, signs=tuple(SIGNS.values()))


def judge_learned(answers: LabeledAnswers) -> NDArray[np.float64]:
    """Return what learning from the signals adds to the GAP of each half of the queries.

    Each half judges what was fitted to the other, as the confidence with the query penalty that
    was fitted there. A half without right and wrong answers, or without landmarks, gains 0. Of
    very many queries some are drawn.
    """
    drawn = np.random.default_rng(0).permutation(len(answers))[:_MOST_JUDGED]
    answers, gains = answers.take(np.sort(drawn)), []
    for taught, judged in (map(answers.take, half) for half in halve(len(answers))):
        if taught.right.all() or not taught.right.any() or not judged.known.any():
            gains.append(0.0)
            continue
        plain = judged.scores - fit_strength(taught) * judged.penalties
        learned = judged.signals @ fit_signals(taught).weights
        gains.append(judged.gap(learned) - judged.gap(plain))
    return np.array(gains)


def fit_learned(
    answers: LabeledAnswers, target: float, gains: NDArray[np.float64]
) -> LearnedConfidence | None:
    """Learn a probability from the signals of answers, right and wrong ones among them.

    Args:
        answers: Fitted to.
        target: Precision that the threshold must reach.
        gains: ``(h,)``, see :func:`judge_learned`; recorded.

    Returns:
        ``None`` where no threshold reaches the target.
    """
    curve = fit_signals(answers)
    probabilities = logistic(answers.signals @ curve.weights + curve.intercept)
    chosen = choose_threshold(probabilities, answers.right, target)
    if chosen is None:
        return None
    weights = zip(SIGNALS, curve.weights.tolist(), strict=True)
    return LearnedConfidence(
        weights={name: weight for name, weight in weights if weight},
        intercept=curve.intercept,
        threshold=max(0.0, chosen.confidence),
        precision=chosen.precision,
        answered=chosen.answered,
        gap_gain=float(gains.mean()),
        better=float((gains > 0).mean()),
    )
