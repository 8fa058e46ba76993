"""Distinct landmarks, several pictures as one query, and parts of a gallery: by brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from index.gallery.catalog import CatalogRow, CatalogWriter
from index.gallery.distractors import Distractors
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.recognize import Recognition, recognize_by
from index.gallery.tombstones import Tombstones, write_tombstones
from index.ranking.ranking import Ranking
from index.search.faiss_search import write_vectors
from index.search.kinds import EXACT, Kind, fastscan
from tests.unit.index.gallery.test_gallery import publish, random_rows
from tests.unit.index.gallery.test_recognize import restated

DIMENSION = 16
SIZES = (900, 1, 2, 5, 400, 3, 3, 1, 700, 2, 40, 8)
"""Rows of each landmark: a few are far larger than a search is wide at first."""

REMOVED = np.array([3, 900, 901, 905, 1310, 2000])
"""Row 900 is all that there was of its landmark."""

RULES = {
    "top1": Ranking(),
    "vote": Ranking(rule="vote", neighbors=7, power=3),
    "penalized": Ranking(gallery_penalty=0.8, query_penalty=0.4, query_distractors=2),
    "penalized vote": Ranking(
        rule="vote", neighbors=4, power=2, gallery_penalty=0.5, query_penalty=0.3
    ),
}


class World:
    """A gallery, and the same as plain arrays."""

    def __init__(self, path: Path, kind: Kind, *, sizes: tuple[int, ...] = SIZES) -> None:
        """Draw landmarks of clustered rows; the first two rows of many are equal."""
        rng = np.random.default_rng(3)
        self.landmarks = np.repeat(np.arange(len(sizes)), sizes)
        centers = rng.normal(size=(len(sizes), DIMENSION))
        rows = centers[self.landmarks] + 0.7 * rng.normal(size=(len(self.landmarks), DIMENSION))
        first = np.searchsorted(self.landmarks, np.arange(len(sizes)))
        rows[first[3:6]] = rows[first[2]]  # a tie of four landmarks
        rows[first[9] + 1] = rows[first[2]]
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        self.rows = rows.astype(np.float16).astype(np.float64)
        self.live = np.ones(len(rows), bool)
        self.live[REMOVED] = False
        directory = publish(path, rows)
        write_vectors(directory / VECTORS, [rows], rows=len(rows), dimension=DIMENSION, kind=kind)
        with CatalogWriter(directory, {}) as catalog:
            catalog.add(
                [
                    CatalogRow(f"{row:06d}", str(code), "x", bytes(32), 1, 1)
                    for row, code in enumerate(self.landmarks.tolist())
                ]
            )
        write_tombstones(directory, Tombstones(rows=REMOVED))
        restated(directory, kind=kind.name, factory=kind.factory, removed=len(REMOVED))
        self.gallery = Gallery.open_directory(directory, embedder_digest=None, threads=1)
        self.penalties = (0.3 * rng.random(len(rows))).astype(np.float32)
        self.distractors = random_rows(6, DIMENSION, seed=9)
        self.gallery.distractors = Distractors(
            self.distractors, self.penalties, float(self.penalties.min())
        )
        self.tied = rows[first[2]]
        self.center = (centers[0] / np.linalg.norm(centers[0])).astype(np.float32)

    def expect(
        self, queries: NDArray[np.float32], ranking: Ranking, live: NDArray[np.bool_], k: int
    ) -> tuple[list[int], list[int], float]:
        """Compute neighbors, the nearest row of every landmark, best first, and the confidence."""
        cosines = (queries.astype(np.float64) @ self.rows.T).clip(-1, 1)
        found = np.einsum("nd,md->nm", queries.astype(np.float64), self.distractors)
        costs = ranking.query_penalty * np.sort(found)[:, -ranking.query_distractors :].mean(1)
        scores = (cosines - ranking.gallery_penalty * self.penalties).round(7)
        nearest_picture = int(np.where(live, scores, -9).max(axis=1).argmax())
        best = np.where(live, scores.max(axis=0), -9)
        order = [row for row in np.argsort(-best, kind="stable").tolist() if live[row]]
        first: dict[int, int] = {}
        for row in order:
            first.setdefault(int(self.landmarks[row]), row)
        confidence = best[order[0]]
        landmarks = list(first)
        if ranking.rule == "vote":
            votes = dict.fromkeys(landmarks, 0.0)
            voters = order[: ranking.neighbors]
            for row in voters:
                votes[int(self.landmarks[row])] += max(best[row], 0.0) ** ranking.power
            landmarks.sort(key=lambda code: -votes[code])
            confidence = (votes[landmarks[0]] / len(voters)) ** (1 / ranking.power)
        return order[:k], [first[code] for code in landmarks], confidence - costs[nearest_picture]


def compare(
    answer: Recognition,
    expected: tuple[list[int], list[int], float],
    world: World,
    landmarks: int,
) -> None:
    """Compare an answer with the plain computation."""
    neighbors, best, confidence = expected
    assert answer.rows.tolist() == neighbors
    assert answer.landmark_rows.tolist() == best[:landmarks]
    assert answer.landmark == world.landmarks[best[0]]
    assert answer.confidence == pytest.approx(confidence, abs=1e-5)


@pytest.fixture(scope="module", params=[EXACT, fastscan(DIMENSION)], ids=lambda kind: kind.name)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Make a gallery of either kind."""
    return World(tmp_path_factory.mktemp("world"), request.param)


def questions(world: World) -> NDArray[np.float32]:
    """Ask for a tie of landmarks, for the center of the largest landmark, and at random."""
    return np.vstack([world.tied[None], world.center[None], random_rows(12, DIMENSION, seed=4)])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("landmarks", [1, 4, 50])
def test_the_best_landmarks_are_those_of_brute_force(
    world: World, rule: str, landmarks: int
) -> None:
    """Each once, by its nearest row, however many rows of others are nearer; ties by row."""
    queries = questions(world)
    found = recognize_by(RULES[rule], world.gallery, queries, 3, landmarks=landmarks)
    for query, answer in zip(queries, found, strict=True):
        expected = world.expect(query[None], RULES[rule], world.live, 3)
        compare(answer, expected, world, landmarks)
        own = world.gallery.catalog.landmarks[answer.landmark_rows]
        assert own[0] == answer.landmark
        cosines = world.rows[answer.landmark_rows] @ query
        np.testing.assert_allclose(answer.landmark_similarities, cosines.clip(-1, 1), atol=1e-6)
    assert len(found[0].landmark_rows) == min(landmarks, len(SIZES) - 1)


def test_a_search_is_widened_only_where_landmarks_are_missing(world: World) -> None:
    """The same neighbors and confidence come with landmarks and without, and no more work."""
    queries = questions(world)
    widths = []
    search = world.gallery.search

    def watched(queries: NDArray[np.float32], k: int) -> object:
        widths.append((len(queries), k))
        return search(queries, k)

    world.gallery.search = watched  # type: ignore[method-assign, assignment]  # counts calls
    try:
        (first, second, *_) = recognize_by(Ranking(), world.gallery, queries, 2, landmarks=3)
    finally:
        del world.gallery.search
    plain = recognize_by(Ranking(), world.gallery, queries, 2)
    assert plain[0].rows.tolist() == first.rows.tolist()
    assert plain[1].confidence == second.confidence
    assert widths[0] == (len(queries), 67)
    seen = world.landmarks[search(queries, 67).rows]
    short = sum(len(np.unique(row)) < 3 for row in seen)
    assert 0 < short < len(queries)
    assert widths[1:] == [(1, 67 * 16)] * short


@pytest.mark.parametrize("rule", RULES)
def test_several_pictures_are_one_query(world: World, rule: str) -> None:
    """The score of a row is its largest for any picture, whichever picture found it."""
    queries = questions(world)
    for first in range(len(queries) - 3):
        own = queries[first : first + 3]
        (answer,) = recognize_by(RULES[rule], world.gallery, own, 40, landmarks=50, together=True)
        compare(answer, world.expect(own, RULES[rule], world.live, 40), world, 50)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "only", [[2], [4, 3], [9, 0, 2, 5, 2], range(len(SIZES))], ids=["one", "two", "four", "all"]
)
def test_a_part_answers_as_a_gallery_of_nothing_else(
    world: World, rule: str, only: list[int]
) -> None:
    """Exactly, in a gallery of fast-scan codes too: neighbors, landmarks and confidence."""
    part = world.gallery.part(only)
    live = world.live & np.isin(world.landmarks, only)
    assert len(part) == live.sum()
    assert part.landmarks().tolist() == np.unique(world.landmarks[live]).tolist()
    queries = questions(world)
    found = recognize_by(RULES[rule], part, queries, 5, landmarks=20)
    for query, answer in zip(queries, found, strict=True):
        compare(answer, world.expect(query[None], RULES[rule], live, 5), world, 20)


@pytest.mark.parametrize("only", [None, [0, 2]])
@pytest.mark.parametrize("rule", RULES)
def test_a_part_without_a_row_does_not_find_it(
    world: World, rule: str, only: list[int] | None
) -> None:
    """A picture of the gallery as a query finds others, not itself."""
    allowed = world.live & (np.isin(world.landmarks, only) if only else True)
    for row in np.flatnonzero(allowed)[[0, 1, 500, -1]].tolist():
        query = world.gallery.vectors(np.array([row]))
        live = allowed.copy()
        live[row] = False
        (answer,) = recognize_by(
            RULES[rule], world.gallery.part(only, without=row), query, 4, landmarks=3
        )
        compare(answer, world.expect(query, RULES[rule], live, 4), world, 3)


def test_a_part_may_be_empty(world: World) -> None:
    """The only picture of a landmark was removed, or is left out."""
    assert len(world.gallery.part([1])) == 0
    (alone,) = np.flatnonzero(world.landmarks == 7)
    assert len(world.gallery.part([7], without=int(alone))) == 0
    assert len(world.gallery.part([7])) == 1


def test_the_whole_is_as_it_was(world: World) -> None:
    """A part shares its files and changes nothing of it; removed landmarks are not listed."""
    before = world.gallery.search(questions(world), 5)
    world.gallery.part([2], without=5).search(questions(world), 1)
    after = world.gallery.search(questions(world), 5)
    assert before.rows.tolist() == after.rows.tolist()
    assert len(world.gallery) == world.live.sum()
    assert world.gallery.landmarks().tolist() == [0, *range(2, len(SIZES))]
