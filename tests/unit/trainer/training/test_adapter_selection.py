"""An adapter is chosen by queries and landmarks that it has not learned from."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from embedder.artifacts.arrays import unit_rows
from embedder.errors import TrainingError
from trainer.training.adapter_selection import (
    UNCHANGED,
    AdapterMetrics,
    LabeledRows,
    choose_adapter,
)

RNG = np.random.default_rng


def pictures(nuisance: float, *, landmarks: int = 24, seed: int = 0) -> LabeledRows:
    """Draw ten pictures of each landmark, two of them queries.

    Args:
        nuisance: How strongly pictures of any landmark vary in the same four directions of 32.
        landmarks: Their number.
        seed: Of everything.
    """
    rng = RNG(seed)
    labels = np.repeat(np.arange(landmarks), 10)
    rows = rng.standard_normal((landmarks, 32))[labels] + rng.standard_normal((len(labels), 32))
    rows[:, :4] += nuisance * rng.standard_normal((len(labels), 4))
    return LabeledRows(unit_rows(rows), labels, np.arange(len(labels)) % 10 < 2)


def nearest_is_right(rows: NDArray[np.float32], asked: LabeledRows) -> float:
    """Answer queries by brute force; return the share of right answers."""
    known, queries = np.flatnonzero(~asked.asked), np.flatnonzero(asked.asked)
    nearest = known[(rows[queries] @ rows[known].T).argmax(axis=1)]
    return float((asked.labels[nearest] == asked.labels[queries]).mean())


def test_what_varies_in_pictures_of_every_landmark_is_whitened_away() -> None:
    """Other landmarks, of which the adapter knows nothing, are then named better, too."""
    drawn, others = pictures(6.0), pictures(6.0, seed=1)
    choice = choose_adapter(drawn)
    assert choice.adapter is not None
    assert choice.name != UNCHANGED
    before, after = choice.metrics[UNCHANGED], choice.metrics[choice.name]
    assert after.gap > before.gap + 0.1
    assert after.left_out > before.left_out + 0.1
    assert after.gap == max(one.gap for one in choice.metrics.values() if one.improves(before))
    weight, mean = choice.adapter.weight.numpy(), choice.adapter.mean.numpy()
    adapted = unit_rows((others.rows - mean) @ weight.T)
    assert nearest_is_right(adapted, others) > nearest_is_right(others.rows, others) + 0.1


def test_an_embedder_that_needs_none_stays_as_it_is() -> None:
    """Where nothing varies more than anything else, no candidate improves it."""
    choice = choose_adapter(pictures(0.0))
    assert choice.name == UNCHANGED
    assert choice.adapter is None
    assert len(choice.metrics) == 6


def test_the_same_pictures_choose_the_same() -> None:
    """To the last bit."""
    one, other = choose_adapter(pictures(6.0)), choose_adapter(pictures(6.0))
    assert one.name == other.name
    assert one.metrics == other.metrics
    assert one.adapter is not None
    assert other.adapter is not None
    assert np.array_equal(one.adapter.weight.numpy(), other.adapter.weight.numpy())


@pytest.mark.parametrize(
    ("gaps", "left_out", "improves"),
    [
        ((0.6, 0.7), 0.9, True),
        ((0.9, 0.5), 0.9, False),  # better in the mean alone
        ((0.6, 0.7), 0.89, False),  # landmarks added later would be named worse
        ((0.5, 0.6), 0.95, False),
    ],
)
def test_an_improvement_is_one_in_every_fold_that_costs_no_new_landmark(
    gaps: tuple[float, ...],
    left_out: float,
    improves: bool,  # noqa: FBT001 (a column of the table)
) -> None:
    """Chance, and gains at the expense of landmarks added later, are none."""
    before = AdapterMetrics((0.5, 0.6), auroc=0.9, left_out=0.9)
    assert AdapterMetrics(gaps, auroc=0.9, left_out=left_out).improves(before) == improves


def test_landmarks_too_few_are_refused_by_their_number() -> None:
    """Each fold leaves one out."""
    with pytest.raises(TrainingError, match="there are 3"):
        choose_adapter(pictures(6.0, landmarks=3))
