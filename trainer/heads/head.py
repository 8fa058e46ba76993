"""What all heads share: labels in, mean loss out, over all landmarks or a sample of them."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainer.heads.nearest import nearest_cosines, take_rows


def rarity_weights(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weigh each landmark's pictures by ``1 / log(1 + n)``, more the rarer it is.

    Args:
        counts: ``(C,)``, pictures of each landmark, all positive.

    >>> rarity_weights(np.array([1, 1000])).round(4).tolist()
    [1.4427, 0.1447]
    """
    weights: NDArray[np.float64] = 1 / np.log1p(counts)
    return weights


class Head(nn.Module):
    """Cross-entropy over landmarks. A head is thrown away when an embedder is exported.

    Args:
        landmarks: Their number ``C``.
        weights: ``(C,)``, what the loss of a picture of each landmark counts; None: all 1. The
            mean is weighted, so its size does not depend on them.
        sample: Part of the landmarks over which a step computes its softmax: those of the batch
            and others drawn anew each time (An et al., *Partial FC: Training 10 Million
            Identities on a Single Machine*, 2021). They are drawn from torch's own generator on
            the CPU, which a checkpoint holds, so that a resumed run draws the same.
    """

    weights: Tensor | None

    def __init__(
        self, landmarks: int, *, weights: Tensor | None = None, sample: float = 1.0
    ) -> None:
        super().__init__()
        self.landmarks = landmarks
        self.sample = sample
        self.register_buffer("weights", weights)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Compute the mean loss.

        Args:
            embeddings: ``(n, d)``, of any length.
            labels: ``(n,)``, landmark of each.
        """
        chosen = self.choose(labels)
        places = labels if chosen is None else torch.searchsorted(chosen, labels)
        logits = self.logits(self.scores(embeddings, chosen), labels, places)
        weights = self.weights
        if weights is not None and chosen is not None:
            weights = weights[chosen]
        return functional.cross_entropy(logits, places, weight=weights)

    def mass(self, labels: Tensor) -> Tensor:
        """Return what pictures of these landmarks count together in the mean loss."""
        if self.weights is None:
            return torch.full((), float(len(labels)), device=labels.device)
        return self.weights[labels].sum()

    def choose(self, labels: Tensor) -> Tensor | None:
        """Draw the landmarks of this step: sorted numbers; None for all of them."""
        wanted = max(round(self.sample * self.landmarks), 2)
        if wanted >= self.landmarks:
            return None
        present = torch.unique(labels)
        chance = torch.rand(self.landmarks).to(labels.device)
        chance[present] = 2.0
        number = max(wanted, len(present))
        return chance.topk(number, sorted=False).indices.sort().values

    @abstractmethod
    def scores(self, embeddings: Tensor, chosen: Tensor | None) -> Tensor:
        """Compare embeddings with the chosen landmarks: ``(n, d)`` → ``(n, C')``."""

    @abstractmethod
    def logits(self, scores: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """Turn scores into logits.

        Args:
            scores: ``(n, C')``.
            labels: ``(n,)``, landmark of each picture among all.
            places: ``(n,)``, its column in ``scores``.
        """


class CosineHead(Head):
    """A head that compares by cosine, with one or several centers for each landmark.

    Args:
        dimension: Length ``d`` of the embeddings.
        landmarks: Their number ``C``.
        centers: Sub-centers ``K`` of each landmark; its cosine is that of the nearest one.
        weights: See :class:`Head`.
        sample: See :class:`Head`.
    """

    def __init__(
        self,
        dimension: int,
        landmarks: int,
        *,
        centers: int = 1,
        weights: Tensor | None = None,
        sample: float = 1.0,
    ) -> None:
        super().__init__(landmarks, weights=weights, sample=sample)
        self.centers = centers
        self.weight = nn.Parameter(torch.empty(landmarks * centers, dimension))
        nn.init.xavier_normal_(self.weight)

    def scores(self, embeddings: Tensor, chosen: Tensor | None) -> Tensor:
        """Return the cosine of each embedding with each landmark's nearest sub-center."""
        weight: Tensor = self.weight
        if chosen is not None:
            weight = take_rows(weight.view(self.landmarks, -1), chosen)
            weight = weight.view(len(chosen) * self.centers, -1)
        return nearest_cosines(embeddings, weight, self.centers)
