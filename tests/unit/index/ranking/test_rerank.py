"""The published rule, against a slow loop in float64."""

from __future__ import annotations

import numpy as np
import pytest

from index.ranking.rerank import rerank
from tests.unit.index.gallery.test_gallery import random_rows


@pytest.mark.parametrize("m", [1, 2, 9, 10, 11, 60])
def test_scores_are_those_of_a_slow_loop(m: int) -> None:
    """Also of fewer rows than the rule looks at."""
    rows, (query,) = random_rows(m, 12, seed=m), random_rows(1, 12, seed=99)
    x, q = rows.astype(np.float64), query.astype(np.float64)
    moved = []
    for i in range(m):
        others = sorted((j for j in range(m) if j != i), key=lambda j: -float(x[i] @ x[j]))[:9]
        weights = {i: 1.0} | {j: 0.15 * float(x[i] @ x[j]) for j in others}
        total = sum(weights.values())
        moved.append(sum(weight * x[j] for j, weight in weights.items()) / total)
    first = sorted(range(m), key=lambda i: -float(moved[i] @ q))[:10]
    expanded = np.max([moved[i] for i in first], axis=0)
    expected = [(float(one @ q) + float(one @ expanded)) / 2 for one in moved]
    assert rerank(query, rows) == pytest.approx(expected, abs=1e-5)


def test_a_row_among_others_like_it_comes_before_one_that_is_alone() -> None:
    """Although that one is a little nearer to the query."""
    rng = np.random.default_rng(0)
    query = np.eye(16, dtype=np.float32)[0]
    group = 0.8 * query + 0.6 * np.eye(16, dtype=np.float32)[1]
    group = group + 0.02 * rng.normal(size=(12, 16)).astype(np.float32)
    alone = 0.82 * query + 0.57 * np.eye(16, dtype=np.float32)[2]
    rows = np.vstack([alone[None], group]).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert (rows @ query).argmax() == 0
    assert rerank(query, rows).argmin() == 0
