"""Reranked answers of a gallery, exact and with candidates."""

from __future__ import annotations

import numpy as np
import pytest

from index.gallery.recognize import recognize_by, recognize_measured
from index.ranking.ranking import Ranking, rank
from index.ranking.rerank import rerank
from index.search.kinds import EXACT, fastscan
from tests.unit.index.gallery.test_part import DIMENSION, World, questions

RERANKED = 60


@pytest.fixture(scope="module", params=[EXACT, fastscan(DIMENSION)], ids=lambda kind: kind.name)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Make a gallery of either kind."""
    return World(tmp_path_factory.mktemp("world"), request.param)


@pytest.mark.parametrize("rule", ["top1", "vote"])
@pytest.mark.parametrize("penalty", [0.0, 0.6])
def test_the_nearest_rows_are_put_into_another_order(
    world: World, rule: str, penalty: float
) -> None:
    """The rule sees that order; cosines, and the rows beyond, stay as they are."""
    plain = Ranking.model_validate({"rule": rule, "gallery_penalty": penalty})
    ranking = plain.model_copy(update={"reranked": RERANKED})
    queries, moved = questions(world), 0
    before = recognize_by(plain, world.gallery, queries, 90)
    for query, old, new in zip(
        queries, before, recognize_by(ranking, world.gallery, queries, 90), strict=True
    ):
        first = old.rows[:RERANKED]
        better = rerank(query, world.gallery.vectors(first)) - penalty * world.penalties[first]
        order = np.argsort(-better, kind="stable")
        assert new.rows.tolist() == [*first[order], *old.rows[RERANKED:]]
        cosines = (world.rows[new.rows] @ query).clip(-1, 1)
        assert new.similarities == pytest.approx(cosines, abs=1e-5)
        scores = (cosines - penalty * world.penalties[new.rows]).astype(np.float32)
        expected = rank(world.landmarks[new.rows], scores, ranking)
        assert new.landmark == expected.landmark
        assert new.confidence == pytest.approx(expected.score, abs=1e-5)
        moved += new.rows[0] != old.rows[0]
    assert moved > 0


def test_an_answer_is_the_same_whatever_else_is_asked_for(world: World) -> None:
    """Few neighbors or many, landmarks, or the signals of a calibration."""
    ranking, queries = Ranking(reranked=RERANKED), questions(world)
    one = recognize_by(ranking, world.gallery, queries)
    many = recognize_by(ranking, world.gallery, queries, 200, landmarks=5)
    measured, _ = recognize_measured(ranking, world.gallery, queries)
    for first, second, third in zip(one, many, measured, strict=True):
        assert first.rows[0] == second.rows[0] == second.landmark_rows[0] == third.rows[0]
        assert first.confidence == second.confidence == third.confidence
