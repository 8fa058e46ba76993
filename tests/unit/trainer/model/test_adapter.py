"""A whitening makes all directions vary alike, as far as it is asked to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from embedder.artifacts.arrays import unit_rows
from embedder.errors import TrainingError
from trainer.model.adapter import learn_whitening
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
