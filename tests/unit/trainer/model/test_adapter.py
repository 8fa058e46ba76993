"""A whitening makes all directions vary alike, or those in which a landmark's pictures differ."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embedder.artifacts.arrays import unit_rows
from embedder.errors import TrainingError
from trainer.model.adapter import LinearAdapter, learn_supervised_whitening, learn_whitening
from trainer.recipe import WhitenRecipe


def test_whitened_rows_vary_alike_in_all_directions() -> None:
    """Fully whitened, the covariance is a multiple of the identity; fully shrunk, only turned."""
    rng = np.random.default_rng(0)
    rows = unit_rows((rng.standard_normal((400, 12)) * np.arange(1, 13) + 3).astype(np.float32))
    tensor = torch.from_numpy(rows)
    full = learn_whitening(rows, WhitenRecipe(shrink=0))(tensor).numpy()
    covariance = np.cov(full.T)
    assert np.abs(covariance / covariance[0, 0] - np.eye(12)).max() < 0.02
    assert np.abs(full.mean(axis=0)).max() < 1e-5
    turned = learn_whitening(rows, WhitenRecipe(shrink=1))(tensor).numpy()
    centered = rows - rows.mean(axis=0)
    assert turned @ turned.T == pytest.approx(centered @ centered.T, abs=0.01)
    few = learn_whitening(rows, WhitenRecipe(dimension=5, shrink=0))
    assert few(tensor).numpy() == pytest.approx(full[:, :5], abs=1e-6)
    assert torch.equal(few.weight, few.weight.bfloat16().float())


@pytest.mark.parametrize(("n", "dimension"), [(5, 8), (40, 13), (2, None)])
def test_too_few_pictures_whiten_nothing(n: int, dimension: int | None) -> None:
    """More directions than there are, or than the pictures show, are refused in words."""
    rows = unit_rows(np.random.default_rng(1).standard_normal((n, 12)).astype(np.float32))
    with pytest.raises(TrainingError, match="cannot be whitened"):
        learn_whitening(rows, WhitenRecipe(dimension=dimension))


def within_and_all(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average ``(a - b)(a - b)ᵀ`` over the pairs of a landmark, ten rows each; and over all."""
    groups = rows.reshape(-1, 10, rows.shape[1]).astype(np.float64)
    pairs = [a - b for group in groups for a, b in combinations(group, 2)]
    return np.mean([np.outer(p, p) for p in pairs], axis=0), np.cov(rows.T)


def of_landmarks() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw ten pictures each of 60 landmarks, which differ most where they do not."""
    rng = np.random.default_rng(4)
    centers, noise = rng.standard_normal((60, 1, 9)), rng.standard_normal((60, 10, 9))
    rows = (centers + noise * np.arange(1, 10)).reshape(600, 9) + 20
    return unit_rows(rows.astype(np.float32)), np.repeat(np.arange(60), 10)


def test_a_supervised_whitening_evens_what_differs_within_landmarks() -> None:
    """The pairs of a landmark then differ alike in all directions, landmarks in the first most."""
    rows, labels = of_landmarks()
    adapted = learn_supervised_whitening(rows, labels, shrink=1e-6)(torch.from_numpy(rows)).numpy()
    within, everything = within_and_all(adapted)
    assert np.abs(within / within[0, 0] - np.eye(9)).max() < 0.02
    variances = np.diag(everything)
    assert np.abs(everything / variances[0] - np.diag(variances / variances[0])).max() < 0.02
    assert (np.diff(variances) < 0).all()
    assert np.abs(adapted.mean(axis=0)).max() < 1e-4
    assert np.ptp(np.diag(within_and_all(rows)[0])) > 0.5 * within_and_all(rows)[0].max()


def test_fully_shrunk_it_only_centers_and_rotates() -> None:
    """Angles between the centered rows stay."""
    rows, labels = of_landmarks()
    turned = learn_supervised_whitening(rows, labels, shrink=1)(torch.from_numpy(rows)).numpy()
    centered = rows - rows.mean(axis=0)
    assert turned @ turned.T == pytest.approx(centered @ centered.T, abs=1e-3)


def test_the_first_numbers_are_those_of_the_whole_vector() -> None:
    """A shorter adapter computes nothing else."""
    rows = torch.randn(3, 5)
    whole = LinearAdapter(torch.randn(5), torch.randn(5, 5))
    torch.testing.assert_close(whole.first(2)(rows), whole(rows)[:, :2])
    assert whole.first(2).dimension == 2


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 1, 1]])
def test_without_different_pictures_of_a_landmark_there_is_nothing_to_even(
    labels: list[int],
) -> None:
    """One picture of each, and two equal ones of each, are refused alike."""
    rows = np.eye(4, dtype=np.float32)[labels]
    with pytest.raises(TrainingError, match="different pictures of one landmark"):
        learn_supervised_whitening(rows, np.array(labels), shrink=0.1)
