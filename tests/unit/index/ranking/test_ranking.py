"""From neighbors to landmarks."""

from __future__ import annotations

import numpy as np
import pytest

from index.ranking.ranking import Ranked, Ranking, nearest_of_landmarks, rank, top1, vote

LANDMARKS = np.array([7, 2, 2, 5], np.int32)
SIMILARITIES = np.array([0.9, 0.5, 0.5, -0.2], np.float32)


def test_top1_is_the_nearest_with_its_cosine() -> None:
    """The served rule takes the first neighbor, whatever comes after."""
    assert top1(LANDMARKS, SIMILARITIES) == Ranked(7, pytest.approx(0.9))


def test_votes_of_a_landmark_add_up() -> None:
    """Two neighbors of 0.5 beat one of 0.9."""
    expected = [Ranked(2, pytest.approx(1.0)), Ranked(7, pytest.approx(0.9))]
    assert vote(LANDMARKS, SIMILARITIES) == expected


def test_power_favors_near_neighbors() -> None:
    """With cosines to the eighth, one of 0.9 beats two of 0.5."""
    first = vote(LANDMARKS, SIMILARITIES, power=8)[0]
    assert first == Ranked(7, pytest.approx(0.9**8))


def test_neighbors_below_the_floor_are_silent() -> None:
    """A floor above all of them leaves no ranking."""
    assert [r.landmark for r in vote(LANDMARKS, SIMILARITIES, floor=0.6)] == [7]
    assert vote(LANDMARKS, SIMILARITIES, floor=0.95) == []


def test_equal_votes_go_to_the_smaller_landmark() -> None:
    """Equal inputs rank equally, whichever neighbor comes first."""
    similar = np.array([0.5, 0.5], np.float32)
    for landmarks in ([9, 3], [3, 9]):
        assert [r.landmark for r in vote(np.array(landmarks), similar)] == [3, 9]


def test_a_ranking_is_no_longer_than_its_limit() -> None:
    """Only the strongest are returned."""
    assert len(vote(np.arange(9), np.linspace(1, 0.1, 9, dtype=np.float32), limit=2)) == 2


def test_programmers_mistakes_are_refused() -> None:
    """Misaligned neighbors, no neighbor, a negative floor."""
    with pytest.raises(ValueError, match="shapes differ"):
        vote(LANDMARKS, SIMILARITIES[:2])
    with pytest.raises(ValueError, match="no neighbor"):
        top1(LANDMARKS[:0], SIMILARITIES[:0])
    with pytest.raises(ValueError, match="floor"):
        vote(LANDMARKS, SIMILARITIES, floor=-0.1)


@pytest.mark.parametrize("power", [1e3, 1e5, 1e300])
@pytest.mark.parametrize("largest", [0.5, 1.5])
def test_any_power_gives_a_finite_confidence(power: float, largest: float) -> None:
    """A very large one gives the largest similarity: votes neither vanish nor overflow."""
    similarities = np.array([largest, 0.4, 0.4], np.float32)
    ranking = Ranking(rule="vote", neighbors=3, power=power)
    found = rank(np.array([7, 2, 2]), similarities, ranking)
    assert found == Ranked(7, pytest.approx(largest, rel=2e-3))


def test_a_vote_is_the_power_mean_of_a_plain_computation() -> None:
    """Neighbors beyond those that have a say change nothing."""
    cosines = np.array([0.9, 0.8, 0.7, 0.6, -0.1, 0.99], np.float32)
    ranking = Ranking(rule="vote", neighbors=5, power=3)
    found = rank(np.array([7, 2, 2, 5, 2, 5]), cosines, ranking)
    assert found == Ranked(2, pytest.approx(((0.8**3 + 0.7**3) / 5) ** (1 / 3)))


def test_fewer_rows_than_voters_are_all_that_have_a_say() -> None:
    """A picture identical to the only one of a gallery is sure."""
    found = rank(np.array([7]), np.ones(1, np.float32), Ranking(rule="vote"))
    assert found == Ranked(7, 1.0)


def test_where_every_vote_is_silent_the_nearest_is_meant() -> None:
    """With strength 0."""
    for largest in (0.0, -0.1):
        similarities = np.array([largest, -0.2], np.float32)
        assert rank(np.array([7, 2]), similarities, Ranking(rule="vote")) == Ranked(7, 0.0)


@pytest.mark.parametrize("rule", ["top1", "vote"])
def test_landmarks_stand_in_the_order_of_votes_and_then_of_their_nearest(rule: str) -> None:
    """Each once, at its nearest neighbor; the first is the answer, also where nobody votes."""
    rng = np.random.default_rng(1)
    for lowest in (0.2, -0.4, -1.0):
        for _ in range(50):
            landmarks = rng.integers(0, 6, 12)
            similarities = np.sort(rng.uniform(lowest, max(lowest + 0.5, -0.1), 12))[::-1]
            similarities = similarities.astype(np.float32)
            ranking = Ranking.model_validate({"rule": rule, "neighbors": 5, "power": 2})
            places = nearest_of_landmarks(landmarks, similarities, ranking).tolist()
            found = landmarks[places].tolist()
            assert sorted(found) == sorted(set(landmarks.tolist()))
            assert places == [landmarks.tolist().index(landmark) for landmark in found]
            assert found[0] == rank(landmarks, similarities, ranking).landmark
            votes = {
                landmark: sum(
                    max(float(similarities[voter]), 0.0) ** 2
                    for voter in range(5)
                    if landmarks[voter] == landmark and rule == "vote"
                )
                for landmark in found
            }
            keys = [
                (-round(votes[landmark], 9), place)
                for landmark, place in zip(found, places, strict=True)
            ]
            assert keys == sorted(keys)
