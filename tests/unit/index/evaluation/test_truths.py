"""Answers scored as columns have the metrics that the official definitions give."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
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
from index.gallery.catalog import NAMES_2, ROWS, Catalog

LANDMARKS = ["a", "b", "c", "d"]


def catalog_of(codes: list[int]) -> Catalog:
    """Make a catalog of pictures of landmarks a to d."""
    columns = {name: [None] * len(codes) for name in ROWS.names} | {"landmark": codes}
    rows = pa.table({name: pa.array(columns[name], ROWS.field(name).type) for name in ROWS.names})
    names = [LANDMARKS, LANDMARKS, LANDMARKS, [None] * 4]
    return Catalog(rows, pa.table(names, schema=NAMES_2))


@pytest.mark.parametrize("seed", range(20))
def test_columns_score_as_the_definitions_do(seed: int) -> None:
    """With ties, several landmarks, landmarks that the gallery lacks, and unreadable queries."""
    rng = np.random.default_rng(seed)
    catalog = catalog_of(np.sort(rng.integers(0, 4, 60)).tolist())
    counts = np.bincount(catalog.landmarks, minlength=4)
    shown = [tuple(rng.choice([*LANDMARKS, "absent"], rng.integers(0, 3))) for _ in range(40)]
    shown[0], shown[1] = ("a", "a"), ()
    truths = {f"q{number:02d}": landmarks for number, landmarks in enumerate(shown)}
    readable = np.flatnonzero(rng.random(40) < 0.8)
    n = len(readable)
    rows = np.stack([rng.permutation(60)[:50] for _ in range(n)])
    answers = Answers(
        rng.integers(0, 4, n).astype(np.int32),
        rng.integers(0, 6, n) / 8,
        rows,
        rng.random((n, 50), np.float32),
    )
    ids = [f"q{place:02d}" for place in readable]
    triples = zip(ids, answers.landmarks, answers.confidences, strict=True)
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


def test_queries_of_nothing_have_no_metrics() -> None:
    """Nor has an empty set of answers."""
    truths = Truths.of([(), ()], catalog_of([0, 1]))
    scored = Scored(truths, np.array([0, 1]), np.array([1, 1, 0, 0]))
    answers = Answers.empty(2, 2)
    answers.rows[:] = 0
    assert set(scored.scores(answers).values()) == {None}
    assert scored.map100(answers, np.array([0, 1], np.int32)) is None
