"""Answers scored as columns have the metrics that the official definitions give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index.evaluation.evaluate import CLASS_SIZES, Scored
from index.evaluation.metrics import (
    Prediction,
    auroc,
    gap,
    group_by_size,
    mean_average_precision_at_100,
    top1_accuracy,
)
from index.evaluation.queries import Answers
from index.evaluation.truths import Truths
from index.gallery.catalog import Catalog, CatalogRow, CatalogWriter
from photographs import Photograph, PhotographList, QueryList

LANDMARKS = ["a", "b", "c", "d"]


def catalog_of(codes: list[int], directory: Path) -> Catalog:
    """Write a catalog of pictures of landmarks a to d, all of which it has."""
    with CatalogWriter(directory, {}) as writer:
        writer.add(
            [
                CatalogRow(f"{row:03d}", LANDMARKS[code], f"{row}.jpg", bytes(32), 1, 1)
                for row, code in enumerate(codes)
            ]
        )
    return Catalog.open(directory)


@pytest.mark.parametrize("seed", range(20))
def test_columns_score_as_the_definitions_do(seed: int, tmp_path: Path) -> None:
    """With ties, several landmarks, landmarks that the gallery lacks, and unreadable queries."""
    rng = np.random.default_rng(seed)
    codes = np.sort([0, 1, 2, 3, *rng.integers(0, 4, 56)])
    catalog = catalog_of(codes.tolist(), tmp_path)
    counts = np.bincount(catalog.landmarks, minlength=4)
    shown = [tuple(rng.choice([*LANDMARKS, "absent"], rng.integers(0, 3))) for _ in range(40)]
    shown[0], shown[1] = ("a", "a"), ()
    truths = {f"q{number:02d}": landmarks for number, landmarks in enumerate(shown)}
    readable = np.flatnonzero(rng.random(40) < 0.8)
    n = len(readable)
    rows = np.stack([rng.permutation(60)[:50] for _ in range(n)])
    answers = Answers(
        rng.integers(0, 4, n).astype(np.int32),
        np.zeros(n),
        np.zeros(n),
        rng.integers(0, 6, n) / 8,
        np.ones(n, np.bool_),
        rows,
        rng.random((n, 50), np.float32),
    )
    ids = [f"q{place:02d}" for place in readable]
    triples = zip(ids, answers.landmarks, answers.scores, strict=True)
    given = [Prediction(query, LANDMARKS[code], float(conf)) for query, code, conf in triples]
    known = [p for p in given if truths[p.query_id]]
    own = {query: landmarks for query, landmarks in truths.items() if landmarks}
    scored = Scored(Truths.of(shown, catalog), readable, counts)
    assert scored.scores(answers) == {
        "gap": gap(given, truths),
        "landmark_only_gap": gap(known, own),
        "top1": top1_accuracy(given, truths),
        "auroc": auroc(
            [p.confidence for p in known],
            [p.confidence for p in given if not truths[p.query_id]],
        ),
    }
    relevant = {
        query: [row for row in range(60) if LANDMARKS[catalog.landmarks[row]] in landmarks]
        for query, landmarks in truths.items()
    }
    relevant = {query: found for query, found in relevant.items() if found}
    retrieved = {
        query: found.tolist() for query, found in zip(ids, rows, strict=True) if query in relevant
    }
    expected = mean_average_precision_at_100(retrieved, relevant)
    assert scored.map100(answers, catalog.landmarks) == pytest.approx(expected, abs=1e-12)
    sizes = dict(zip(LANDMARKS, counts.tolist(), strict=True))
    groups = group_by_size(truths, sizes, CLASS_SIZES)
    found_groups = {group.pictures: group for group in scored.class_sizes(answers)}
    assert found_groups.keys() == {least for least, asked in groups.items() if asked}
    for least, group in found_groups.items():
        asked = groups[least]
        mine = [p for p in given if p.query_id in asked]
        expected_group = (len(asked), top1_accuracy(mine, asked), gap(mine, asked))
        assert (group.queries, group.top1, group.landmark_only_gap) == expected_group


def test_columns_of_queries_are_looked_up_as_a_list_of_them(tmp_path: Path) -> None:
    """A landmark that the gallery lacks has no code."""
    catalog, shown = catalog_of([0, 1], tmp_path), [("b", "absent"), (), ("a",), ("b",)]
    pictures = (Photograph(f"q{number}", Path("q"), None) for number in range(4))
    queries = QueryList.of(PhotographList.of(pictures), shown)
    for truths in (Truths.of(shown, catalog), Truths.of_queries(queries, catalog)):
        assert truths.codes.tolist() == [1, -1, 0, 1]
        assert truths.owners.tolist() == [0, 0, 2, 3]
        assert truths.known.tolist() == [True, False, True, True]


def test_queries_of_nothing_have_no_metrics(tmp_path: Path) -> None:
    """Nor has an empty set of answers."""
    truths = Truths.of([(), ()], catalog_of([0, 1], tmp_path))
    scored = Scored(truths, np.array([0, 1]), np.array([1, 1]))
    answers = Answers.empty(2, 2)
    answers.rows[:] = 0
    assert set(scored.scores(answers).values()) == {None}
    assert scored.map100(answers, np.array([0, 1], np.int32)) is None
