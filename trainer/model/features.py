"""What a backbone gives for pictures of given sides, found out without computing anything.

Shapes alone are propagated, on torch's meta device: a network that cannot take a side is known
before any weight is made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# What timm's networks raise for pictures or options that they do not take.
FAULTS = (AssertionError, RuntimeError, ValueError, TypeError, IndexError, AttributeError)


class UnsuitableError(Exception):
    """A network cannot be used as a backbone: ``reason`` for people, ``side`` if that is it."""

    def __init__(self, reason: str, side: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.side = side


@dataclass(frozen=True)
class Features:
    """What a backbone gives for a picture before pooling.

    Attributes:
        channels: Number of channels.
        tokens: ``(n, tokens, c)`` as transformers give; otherwise maps.
        channels_last: Of maps: ``(n, h, w, c)``, otherwise ``(n, c, h, w)``.
        prefix: Of tokens: so many at the start stand for no position.
        headless: Only the method ``forward_features`` gives them.
    """

    channels: int
    tokens: bool
    channels_last: bool
    prefix: int
    headless: bool

    def compute(self, backbone: Any, pictures: Tensor) -> Tensor:  # noqa: ANN401 - timm's methods
        """Compute the features of pictures by their backbone."""
        features: Tensor
        features = backbone.forward_features(pictures) if self.headless else backbone(pictures)
        return features

    def as_maps(self, features: Tensor) -> Tensor:
        """Bring features to ``(n, c, h, w)``; tokens lie along the height."""
        if self.tokens:
            return features[:, self.prefix :].transpose(1, 2).unsqueeze(-1)
        return features.permute(0, 3, 1, 2) if self.channels_last else features


def find_features(backbone: nn.Module, sides: Sequence[int], *, headless: bool) -> Features:
    """Find out what a backbone on the meta device gives for pictures of these sides.

    Raises:
        UnsuitableError: It takes no pictures of a side, gives neither maps nor tokens, or has
            weights that cannot lie in channels-last order.
    """
    if any(parameter.ndim > 4 for parameter in backbone.parameters()):
        raise UnsuitableError("has convolutions of three dimensions, which are not supported")
    found = [_features_at(backbone.eval(), side, headless=headless) for side in sides]
    if any(one != found[0] for one in found):
        raise UnsuitableError("gives other features for each size of the pictures")
    return found[0]


@torch.no_grad()
def _features_at(backbone: Any, side: int, *, headless: bool) -> Features:  # noqa: ANN401 - timm's methods
    pictures = torch.zeros(2, 3, side, side, device="meta")
    try:
        output = backbone.forward_features(pictures) if headless else backbone(pictures)
    except FAULTS as error:
        raise UnsuitableError(f"takes no pictures of {side} pixels", side) from error
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        raise UnsuitableError("gives neither feature maps nor tokens")
    tokens = output.ndim == 3
    last = tokens or getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    prefix = getattr(backbone, "num_prefix_tokens", None)
    if prefix is None:  # those that stand for a position form a square
        prefix = int(math.isqrt(output.shape[1] - 1) ** 2 == output.shape[1] - 1 > 0)
    return Features(
        channels=output.shape[-1 if last else 1],
        tokens=tokens,
        channels_last=last and not tokens,
        prefix=prefix if tokens else 0,
        headless=headless,
    )
