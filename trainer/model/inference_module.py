"""The network as it is exported: several views of a picture, their mean, and an adapter."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.model.adapter import LinearAdapter
from trainer.recipe import View

_VIEWS: Mapping[View, Callable[[Tensor], Tensor]] = {
    "plain": lambda pictures: pictures,
    "mirrored": lambda pictures: pictures.flip(3),
}


class ViewEmbeddings(nn.Module):
    """Embed several views of a picture as one larger batch."""

    def __init__(self, network: nn.Module, views: Sequence[View]) -> None:
        super().__init__()
        self.network = network
        self.views = tuple(views)

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute ``(n, views, d)`` of ``(n, 3, side, side)`` pictures."""
        rows: Tensor = self.network(torch.cat([_VIEWS[view](pictures) for view in self.views]))
        return rows.reshape(len(self.views), -1, rows.shape[1]).transpose(0, 1)


def combine_views(rows: Tensor, adapter: LinearAdapter | None) -> Tensor:
    """Reduce the embeddings of a picture's views to its unit embedding.

    ``(n, views, d)`` unit rows → ``(n, dimension)`` unit rows; the adapter applies to the mean.
    """
    means = functional.normalize(rows.sum(dim=1)) if rows.shape[1] > 1 else rows[:, 0]
    return means if adapter is None else functional.normalize(adapter(means))


class InferenceModule(nn.Module):
    """What is exported: a network that gives unit rows, all its views, and its adapter."""

    def __init__(
        self,
        network: nn.Module,
        views: Sequence[View] = ("plain",),
        adapter: LinearAdapter | None = None,
    ) -> None:
        super().__init__()
        self.embed_views = ViewEmbeddings(network, views)
        self.adapter = adapter

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute unit embeddings ``(n, dimension)`` of ``(n, 3, side, side)`` pictures."""
        return combine_views(self.embed_views(pictures), self.adapter)
