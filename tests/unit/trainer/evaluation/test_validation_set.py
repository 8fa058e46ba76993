"""What a network is scored on is bounded, can be answered, and is the same in every epoch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from photographs import Photograph, PhotographList, Query
from photographs.prepare.split import first_of_each
from trainer.evaluation.validation_set import Bounds, choose_validation_set

LARGE = Bounds(per_landmark=3, gallery=10_000, queries=10_000)


def listed(sizes: list[int], name: str = "") -> PhotographList:
    """List photographs of landmarks of the given sizes."""
    return PhotographList.of(
        Photograph(f"{name}{landmark}-{n}", Path(f"{n}.jpg"), str(landmark))
        for landmark, size in enumerate(sizes)
        for n in range(size)
    )


def test_few_pictures_are_all_taken_in_their_order() -> None:
    """Below the bounds a set is the first pictures of each landmark, and all queries."""
    train, kept_back = listed([5, 2, 9]), listed([2, 1, 3], "q")
    strange = [Photograph("x", Path("x.jpg"), None)]
    chosen = choose_validation_set(train, kept_back, strange, LARGE, seed=4)
    assert chosen.gallery == first_of_each(train, 3)
    asked = [(query.id, query.path, query.landmark_ids) for query in chosen.queries]
    assert asked == [(p.id, p.path, (p.landmark_id,)) for p in kept_back]
    assert chosen.distractors == [Query("x", Path("x.jpg"), ())]


def test_many_pictures_are_bounded_and_chosen_by_the_seed() -> None:
    """Queries and distractors are drawn; the same seed draws the same ones."""
    train, kept_back = listed([6] * 50), listed([4] * 50, "q")
    strange = listed([100])
    bounds = Bounds(per_landmark=3, gallery=40, queries=20)
    first, same, other = (
        choose_validation_set(train, kept_back, strange, bounds, seed=seed) for seed in (1, 1, 2)
    )
    assert first.sizes == {"gallery": 40, "queries": 20, "distractors": 20}
    assert (first.queries, first.distractors) == (same.queries, same.distractors)
    assert first.queries != other.queries


def test_a_bounded_gallery_can_answer_the_queries() -> None:
    """Landmarks of queries come first, each with one picture before any has two."""
    train = listed([6] * 50)
    queries = [Query("a", Path("a"), ("30", "40")), Query("b", Path("b"), ("7",))]
    sizes = []
    for limit in (3, 5, 9, 20):
        chosen = choose_validation_set(train, queries, [], Bounds(3, limit, 10), seed=0)
        sizes.append(Counter(str(photograph.landmark_id) for photograph in chosen.gallery))
    assert sizes[0] == {"7": 1, "30": 1, "40": 1}
    assert sorted(sizes[1].values()) == [1, 2, 2]
    assert sizes[2] == {"7": 3, "30": 3, "40": 3}
    assert sizes[2].items() <= sizes[3].items()
    assert len(sizes[3]) == 3 + 11


def test_labeled_queries_of_no_landmark_are_distractors() -> None:
    """A list of queries with its truths gives both parts; queries of several keep them all."""
    queries = [Query("a", Path("a"), ("0", "1")), Query("b", Path("b"), ())]
    chosen = choose_validation_set(listed([2, 2]), queries, [], LARGE, seed=0)
    assert (chosen.queries, chosen.distractors) == ([queries[0]], [queries[1]])
