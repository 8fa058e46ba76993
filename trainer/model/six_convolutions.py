"""A small convolutional network for training from scratch."""

from __future__ import annotations

import itertools

from torch import nn

NAME = "six_convolutions"


class SixConvolutions(nn.Sequential):
    """Six convolutions, each with a ReLU and a max-pool.

    ``(n, 3, side, side)`` → ``(n, 256, side/64, side/64)``. Designed for pictures of
    800 × 800 pixels; any side from 64 up works.
    """

    num_features = 256

    def __init__(self) -> None:
        widths = (3, 16, 32, 64, 128, 256, self.num_features)
        layers: list[nn.Module] = []
        for i, o in itertools.pairwise(widths):
            layers += [nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        super().__init__(*layers)
