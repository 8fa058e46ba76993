"""Golden pictures are the same for all new embedders, and their vectors are finite."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from embedder.artifacts.arrays import read_npz
from embedder.errors import TrainingError
from embedder.manifest import Preprocess
from trainer.export.golden import golden_pictures, write_golden

PREPROCESS = Preprocess(side=32)


class Sums(nn.Module):
    """A network of two numbers: sums of the pixels, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, pictures: Tensor) -> Tensor:
        """Sum over both halves."""
        halves = pictures.sum((1, 2)).unflatten(1, (2, -1)).sum(2)
        return self.factor * halves


def crops(number: int) -> np.ndarray:
    """Draw normalized crops."""
    return np.random.default_rng(0).standard_normal((number, 3, 32, 32)).astype(np.float16)


def test_golden_pictures_are_always_the_same() -> None:
    """Only embedders with equal golden pictures can be joined."""
    assert golden_pictures() == golden_pictures()


def test_golden_pictures_differ_in_size_proportions_and_content() -> None:
    """So that a wrong resize or crop changes a vector."""
    images = [Image.open(io.BytesIO(data)) for data in golden_pictures()]
    assert len(images) == 4
    assert {image.format for image in images} == {"JPEG"}
    proportions = [image.width / image.height for image in images]
    assert min(proportions) < 1 < max(proportions)
    assert len({image.size for image in images}) == 4
    small = [np.asarray(image.resize((8, 8)), np.float64) for image in images]
    assert all(np.abs(a - b).mean() > 20 for n, a in enumerate(small) for b in small[:n])


@pytest.mark.parametrize("number", [0, 3])
def test_golden_vectors_are_what_the_network_computes(tmp_path: Path, number: int) -> None:
    """For the pictures and for the crops, if there are any."""
    path, network = tmp_path / "golden.npz", Sums(1.0)
    assert write_golden(path, network, PREPROCESS, crops(number)) == 2
    golden = read_npz(path)
    assert golden["vectors"].shape == (4, 2)
    assert golden["picture_3"].tobytes() == golden_pictures()[3]
    expected = network(torch.from_numpy(crops(number).astype(np.float32))).numpy()
    assert np.array_equal(golden["crop_vectors_0"], expected.reshape(number, 2))


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    """Nothing is written."""
    with pytest.raises(TrainingError, match="not finite"):
        write_golden(tmp_path / "golden.npz", Sums(float("inf")), PREPROCESS, crops(1))
    assert not list(tmp_path.iterdir())
