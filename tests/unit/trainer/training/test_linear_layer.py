"""A linear layer learns what tells landmarks apart, and starts as what it is given."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from embedder.artifacts.arrays import unit_rows
from trainer.model.adapter import LinearAdapter
from trainer.training.linear_layer import learn_linear_layer


def of_landmarks() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw 20 pictures each of 12 landmarks, which only two numbers of sixteen tell apart."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(12), 20)
    rows = rng.standard_normal((240, 16))
    angles = labels * np.pi / 6
    rows[:, :2] = 2 * np.column_stack([np.cos(angles), np.sin(angles)])
    return unit_rows(rows.astype(np.float32)), labels


def margin(rows: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return by how much pictures of one landmark are nearer to each other than to others."""
    cosines, same = rows @ rows.T, labels[:, None] == labels
    return float(cosines[same].mean() - cosines[~same].mean())


def test_it_learns_what_tells_landmarks_apart() -> None:
    """Pictures of one landmark come nearer to each other, others do not."""
    rows, labels = of_landmarks()
    start = LinearAdapter(torch.zeros(16), torch.eye(16))
    learned = learn_linear_layer(start, rows, labels)
    adapted = functional.normalize(learned(torch.from_numpy(rows))).numpy()
    assert margin(adapted, labels) > 1.02 * margin(rows, labels)
    assert torch.equal(learned.mean, start.mean)


def test_it_learns_the_same_again_and_disturbs_no_other_randomness() -> None:
    """An embedder is adapted to the same bits, whatever was computed before."""
    rows, labels = of_landmarks()
    start = LinearAdapter(torch.full((16,), 0.01), torch.eye(16)[:8])
    torch.manual_seed(3)
    first = learn_linear_layer(start, rows, labels)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(first.weight, learn_linear_layer(start, rows, labels).weight)
    assert first.weight.shape == (8, 16)
