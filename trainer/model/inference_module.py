"""The network as it leaves the laboratory: views of a picture, their mean, and its whitening."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.model.whitening import Whitening
from trainer.recipe import View

_VIEWS: Mapping[View, Callable[[Tensor], Tensor]] = {
    "plain": lambda pictures: pictures,
    "mirrored": lambda pictures: pictures.flip(3),
}


class EveryView(nn.Module):
    """Embed several views of a picture as one larger batch.

    Args:
        network: ``(n, 3, side, side)`` → ``(n, d)`` unit rows.
        views: What it sees of each picture.
    """

    def __init__(self, network: nn.Module, views: Sequence[View]) -> None:
        super().__init__()
        self.network = network
        self.views = tuple(views)

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute ``(n, views, d)`` of ``(n, 3, side, side)`` pictures."""
        seen: Tensor = self.network(torch.cat([_VIEWS[view](pictures) for view in self.views]))
        return seen.reshape(len(self.views), -1, seen.shape[1]).transpose(0, 1)


def finish(seen: Tensor, whitening: Whitening | None) -> Tensor:
    """Make one unit vector of several.

    Args:
        seen: ``(n, views, d)`` unit rows.
        whitening: Applied to their mean; None leaves it as it is.

    Returns:
        ``(n, dimension)`` unit rows.
    """
    rows = functional.normalize(seen.sum(dim=1)) if seen.shape[1] > 1 else seen[:, 0]
    return rows if whitening is None else functional.normalize(whitening(rows))


class ServedNetwork(nn.Module):
    """What is exported: a network, all its views, and its whitening.

    Args:
        network: ``(n, 3, side, side)`` → ``(n, d)`` unit rows.
        views: What it sees of each picture.
        whitening: See :func:`finish`.
    """

    def __init__(
        self,
        network: nn.Module,
        views: Sequence[View] = ("plain",),
        whitening: Whitening | None = None,
    ) -> None:
        super().__init__()
        self.every_view = EveryView(network, views)
        self.whitening = whitening

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute unit embeddings ``(n, dimension)`` of ``(n, 3, side, side)`` pictures."""
        return finish(self.every_view(pictures), self.whitening)
