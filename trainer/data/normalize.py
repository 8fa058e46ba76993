"""Normalize pictures on the device: as bytes they are four times smaller on their way to it."""

import torch
from torch import Tensor

from embedder.manifest import Preprocess
from embedder.preprocess import normalization


class Normalize:
    """Turns pixels into the network's input, to the bit as :func:`embedder.preprocess.normalize`.

    Args:
        preprocess: What the network expects; its side does not matter.
        device: Where the network is.
    """

    def __init__(self, preprocess: Preprocess, device: torch.device) -> None:
        self._device = device
        self._scale, self._offset = (
            torch.from_numpy(of_channels).to(device).view(1, 3, 1, 1)
            for of_channels in normalization(preprocess)
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalize ``(n, side, side, 3)`` bytes.

        Returns:
            ``(n, 3, side, side)`` float32 on the device, in channels-last order.
        """
        here = pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
        # Two roundings as in numpy: one fused operation would give other last digits.
        scaled = here.to(torch.float32, memory_format=torch.channels_last).mul_(self._scale)
        return scaled.sub_(self._offset)
