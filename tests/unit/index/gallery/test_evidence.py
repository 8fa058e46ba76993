"""Signals of a gallery's answers, by brute force, and what a learned calibration makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from index.gallery.recognize import recognize, recognize_by_each, recognize_measured
from index.ranking.calibration import LearnedConfidence
from index.ranking.ranking import Ranking
from index.ranking.signals import CENTER_ROWS, SEEN_ROWS, SIGNALS
from index.search.kinds import EXACT, fastscan
from tests.factories import calibration
from tests.unit.index.gallery.test_part import DIMENSION, RULES, World, questions

LEARNED = LearnedConfidence(
    weights={"cosine": 3.0, "margin": 2.0, "center_margin": 1.0, "query_penalty": -1.0},
    intercept=-2.0,
    threshold=0.6,
    precision=0.9,
    answered=0.5,
    gap_gain=0.01,
    better=0.9,
)
CALIBRATION = calibration(learned=LEARNED)


@pytest.fixture(scope="module", params=[EXACT, fastscan(DIMENSION)], ids=lambda kind: kind.name)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Make a gallery of either kind, with dead rows and landmarks of very different sizes."""
    return World(tmp_path_factory.mktemp("world"), request.param)


@pytest.fixture
def calibrated(world: World) -> Iterator[World]:
    """Give the gallery a learned calibration."""
    manifest = world.gallery.manifest
    world.gallery.manifest = manifest.model_copy(update={"calibration": CALIBRATION})
    yield world
    world.gallery.manifest = manifest


def expect(
    world: World, query: NDArray[np.float32], ranking: Ranking, landmark: int
) -> dict[str, float]:
    """Compute the signals of an answer in float64, comparing every row."""
    cosines = world.rows @ query.astype(np.float64)
    scores = (cosines - ranking.gallery_penalty * world.penalties).round(7)
    order = [r for r in np.argsort(-scores, kind="stable").tolist() if world.live[r]][:SEEN_ROWS]
    own = [row for row in order if world.landmarks[row] == landmark]
    others = [row for row in order if world.landmarks[row] != landmark]
    best = max(own, key=lambda row: cosines[row])
    other = max(others, key=lambda row: cosines[row], default=None)

    def center(code: int) -> float:
        rows = np.flatnonzero(world.live & (world.landmarks == code))
        if len(rows) > CENTER_ROWS:
            rows = rows[
                [place * (len(rows) - 1) // (CENTER_ROWS - 1) for place in range(CENTER_ROWS)]
            ]
        mean = world.rows[rows].sum(axis=0)
        return float(mean @ query / np.linalg.norm(mean))

    own_center, last = center(landmark), min(cosines[row] for row in order)
    penalties = np.sort(world.distractors @ query)[-ranking.query_distractors :]
    votes = sum(max(cosines[row], 0.0) ** 8 for row in order[:5] if row in own)
    return {
        "cosine": cosines[best],
        "margin": cosines[best] - (last if other is None else cosines[other]),
        "vote": (votes / 5) ** (1 / 8),
        "agreement": sum(row in own for row in order[:10]) / 10,
        "density": np.mean(
            [world.rows[row] @ world.rows[best] for row in order[:10] if row != best]
        ),
        "log_pictures": math.log((world.live & (world.landmarks == landmark)).sum()),
        "center": own_center,
        "center_margin": own_center
        - (last if other is None else center(int(world.landmarks[other]))),
        "row_penalty": world.penalties[best],
        "query_penalty": penalties.mean(),
    }


@pytest.mark.parametrize("rule", RULES)
def test_signals_are_those_of_brute_force(world: World, rule: str) -> None:
    """Of answers that the nearest picture gave, or a vote, with penalties or without."""
    queries = questions(world)
    answers, signals = recognize_measured(RULES[rule], world.gallery, queries)
    for query, answer, found in zip(queries, answers, signals, strict=True):
        expected = expect(world, query, RULES[rule], answer.landmark)
        assert dict(zip(SIGNALS, found.tolist(), strict=True)) == pytest.approx(expected, abs=1e-5)


def test_a_learned_probability_takes_the_place_of_the_curve(calibrated: World) -> None:
    """The confidence stays; the answer is the same whatever else is asked for."""
    gallery, queries = calibrated.gallery, questions(calibrated)
    answers, signals = recognize_measured(Ranking(), gallery, queries)
    expected = [LEARNED.probability(one) for one in signals]
    for found in (
        recognize(gallery, queries),
        recognize(gallery, queries, 200),
        recognize(gallery, queries, landmarks=5),
        [recognize(gallery, query[None], together=True)[0] for query in queries],
        recognize_by_each(gallery, [Ranking()], queries)[0],
    ):
        assert [one.probability for one in found] == pytest.approx(expected, abs=1e-6)
        assert [one.known for one in found] == [one >= LEARNED.threshold for one in expected]
        assert [one.score for one in found] == [one.probability for one in found]
        assert [one.confidence for one in found] == [one.confidence for one in answers]
    by_ranking = recognize_by_each(gallery, [Ranking()], queries)[1]
    assert {one.probability for one in by_ranking} == {None}
    assert [one.score for one in by_ranking] == [one.confidence for one in answers]
    assert 0 < sum(one >= LEARNED.threshold for one in expected) < len(queries)


def test_several_pictures_are_as_near_to_a_center_as_the_nearest(calibrated: World) -> None:
    """A picture twice says no more than once, and one that is far from all changes little."""
    gallery, (query, *_) = calibrated.gallery, questions(calibrated)[1:]
    (alone,) = recognize(gallery, query[None])
    (twice,) = recognize(gallery, np.stack([query, query]), together=True)
    assert twice.probability == pytest.approx(alone.probability, abs=1e-6)
    (beside,) = recognize(gallery, np.stack([query, -query]), together=True)
    assert beside.landmark == alone.landmark
    assert beside.probability == pytest.approx(alone.probability, abs=0.1)


def test_a_part_of_some_landmarks_has_only_the_curve(calibrated: World) -> None:
    """It lacks the landmarks that margins were learned against; a gallery less a row has all."""
    gallery, queries = calibrated.gallery, questions(calibrated)
    for answer in recognize(gallery.part([0, 4, 8]), queries):
        assert answer.probability == CALIBRATION.probability(answer.confidence)
        assert answer.score == answer.confidence
        assert answer.known == CALIBRATION.known(answer.confidence)
    whole, without = recognize(gallery, queries), recognize(gallery.part(without=3), queries)
    assert [one.probability for one in without] == [one.probability for one in whole]


def test_the_rows_of_a_landmark_are_its_live_ones(world: World) -> None:
    """None of a landmark that was removed; a left out row is no row of a part."""
    for code in range(12):
        live = np.flatnonzero(world.live & (world.landmarks == code))
        assert world.gallery.rows_of(code).tolist() == live.tolist()
    part = world.gallery.part(without=5)
    assert 5 not in part.rows_of(0)
    assert len(part.rows_of(0)) == len(world.gallery.rows_of(0)) - 1
