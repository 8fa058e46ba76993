"""The official metrics, against tables worked by hand and slow definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from index.evaluation.metrics import (
    Prediction,
    auroc,
    gap,
    mean_average_precision_at_100,
    top1_accuracy,
)

TRUTHS = {"q1": ["1"], "q2": ["2", "3"], "q3": [], "q4": ["4"], "q5": ["5"]}


def test_gap_equals_a_table_worked_by_hand() -> None:
    """Right answers at places 1, 3 and 4 of four known queries give (1 + 2/3 + 3/4) / 4."""
    answers = [
        Prediction("q4", "4", 0.30),  # place 4, right
        Prediction("q1", "1", 0.90),  # place 1, right
        Prediction("q3", "1", 0.80),  # place 2, a picture of no landmark
        Prediction("q2", "3", 0.50),  # place 3, right by the second of its landmarks
    ]  # q5 abstains
    assert gap(answers, TRUTHS) == pytest.approx((1 + 2 / 3 + 3 / 4) / 4, abs=1e-12)


def test_gap_settles_ties_by_query_id() -> None:
    """Of equal confidences the smaller query id comes first, however they are given."""
    right_first = [Prediction("q1", "1", 0.5), Prediction("q3", "1", 0.5)]
    wrong_first = [Prediction("q4", "4", 0.5), Prediction("q3", "1", 0.5)]
    for order in itertools.permutations(right_first):
        assert gap(order, TRUTHS) == pytest.approx(1 / 4)
    for order in itertools.permutations(wrong_first):
        assert gap(order, TRUTHS) == pytest.approx(1 / 2 / 4)


def test_gap_sorts_query_ids_as_text() -> None:
    """The official rule compares ids as text: ``q10`` before ``q9``."""
    truths = {"q10": ["1"], "q9": []}
    assert gap([Prediction("q9", "1", 0.5), Prediction("q10", "1", 0.5)], truths) == 1.0


def test_gap_equals_its_definition_on_random_answers() -> None:
    """The running sum equals precision at each right place, computed from the definition."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        truths = {
            f"q{i}": [str(x) for x in rng.integers(0, 3, rng.integers(0, 3))] for i in range(9)
        }
        truths["known"] = ["0"]
        answers = [
            Prediction(query, str(rng.integers(0, 3)), float(rng.integers(0, 4)) / 4)
            for query in truths
            if rng.random() < 0.8
        ]
        ranked = sorted(sorted(answers, key=lambda p: p.query_id), key=lambda p: -p.confidence)
        right = [p.landmark_id in truths[p.query_id] for p in ranked]
        expected = sum(sum(right[: i + 1]) / (i + 1) for i in range(len(right)) if right[i])
        assert gap(answers, truths) == pytest.approx(expected / sum(map(bool, truths.values())))


def test_no_answers_score_zero() -> None:
    """Abstaining from every query is a GAP and a top-1 of 0."""
    assert gap([], TRUTHS) == 0.0
    assert top1_accuracy([], TRUTHS) == 0.0


def test_top1_counts_known_queries_only() -> None:
    """Two of four known queries are right; the picture of no landmark counts for nothing."""
    answers = [
        Prediction("q1", "1", 0.1),
        Prediction("q2", "3", 0.1),
        Prediction("q3", "1", 0.9),
        Prediction("q4", "1", 0.9),
    ]
    assert top1_accuracy(answers, TRUTHS) == 0.5


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([Prediction("q1", "1", 0.5), Prediction("q1", "2", 0.4)], "q1 is answered twice"),
        ([Prediction("stranger", "1", 0.5)], "stranger is not among the queries"),
        ([Prediction("q1", "1", math.nan)], "the confidence for q1 is not finite"),
    ],
)
def test_faulty_answers_are_refused(answers: list[Prediction], words: str) -> None:
    """A second, a stranger's or a nameless number would change the metric silently."""
    with pytest.raises(ValueError, match=words):
        gap(answers, TRUTHS)
    with pytest.raises(ValueError, match=words):
        top1_accuracy(answers, TRUTHS)


def test_gap_without_a_known_query_is_refused() -> None:
    """There is nothing to divide by."""
    with pytest.raises(ValueError, match="no query shows a landmark"):
        gap([], {"q": []})


def test_auroc_equals_the_count_of_pairs() -> None:
    """The rank sum equals counting every pair of known and unknown, ties as one half."""
    rng = np.random.default_rng(1)
    known, unknown = rng.integers(0, 6, 40) / 6, rng.integers(0, 5, 30) / 6
    wins = np.mean([(k > u) + (k == u) / 2 for k in known for u in unknown])
    assert auroc(known, unknown) == pytest.approx(wins, abs=1e-12)


def test_auroc_of_one_sort_alone_is_refused() -> None:
    """Telling two sorts apart needs both."""
    with pytest.raises(ValueError, match="known and unknown"):
        auroc([0.5], [])


def test_map_counts_the_place_of_a_repeated_picture() -> None:
    """The second ``a`` is passed over, yet ``b`` stays at place 3: (1/1 + 2/3) / 2."""
    ranking = {"q": ["a", "a", "b"]}
    expected = pytest.approx((1 + 2 / 3) / 2)
    assert mean_average_precision_at_100(ranking, {"q": ["a", "b"]}) == expected


def test_map_looks_at_a_hundred_places_of_a_hundred_wanted() -> None:
    """Of 150 relevant pictures 100 suffice; one at place 101 counts for nothing."""
    relevant = [f"p{i}" for i in range(150)]
    assert mean_average_precision_at_100({"q": relevant}, {"q": relevant}) == 1.0
    late = [f"x{i}" for i in range(100)] + ["p0"]
    assert mean_average_precision_at_100({"q": late}, {"q": relevant}) == 0.0


def test_map_counts_queries_without_a_ranking() -> None:
    """A query that was not answered scores 0 and still divides."""
    assert mean_average_precision_at_100({"q": ["a"]}, {"q": ["a"], "r": ["b"]}) == 0.5


def test_map_needs_relevant_pictures() -> None:
    """A query of which nothing is relevant has no average precision."""
    with pytest.raises(ValueError, match="relevant"):
        mean_average_precision_at_100({}, {"q": []})
    with pytest.raises(ValueError, match="stranger"):
        mean_average_precision_at_100({"stranger": ["a"]}, {"q": ["a"]})
