"""What all heads share: labels in, mean loss out, over all landmarks or a sample of them."""

import math
from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainer.heads.cosines import nearest_cosines, take_rows


def rarity_weights(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weigh each landmark's pictures by ``1 / log(1 + n)``, more the rarer it is.

    >>> rarity_weights(np.array([1, 1000])).round(4).tolist()
    [1.4427, 0.1447]
    """
    return np.asarray(1 / np.log1p(counts))


class Head(nn.Module):
    """Cross-entropy over ``C`` landmarks.

    Attributes:
        weights: ``(C,)``, weight of each landmark in the loss; None: all 1. The mean is
            weighted, so its size does not depend on them.
        sample: Fraction of the landmarks over which a step computes its softmax: those of the
            batch and others drawn at random (An et al., *Partial FC: Training 10 Million
            Identities on a Single Machine*, 2021). They are drawn from torch's own generator on
            the CPU, which a checkpoint holds, so that a resumed run draws the same.
        label_smoothing: Part of each label that is spread over the landmarks of the softmax.
    """

    weights: Tensor | None

    def __init__(self, landmarks: int) -> None:
        super().__init__()
        self.landmarks = landmarks
        self.sample = 1.0
        self.label_smoothing = 0.0
        self.register_buffer("weights", None)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Compute the mean loss of ``(n, d)`` embeddings of any length with ``(n,)`` labels."""
        sampled = self.sample_landmarks(labels)
        columns = labels if sampled is None else torch.searchsorted(sampled, labels)
        logits = self.logits(self.scores(embeddings, sampled), labels, columns)
        weights = self.weights
        if weights is not None and sampled is not None:
            weights = weights[sampled]
        return functional.cross_entropy(
            logits, columns, weight=weights, label_smoothing=self.label_smoothing
        )

    def weight_sum(self, labels: Tensor) -> Tensor:
        """Sum the class weights of pictures of these landmarks: the divisor of the mean loss."""
        if self.weights is None:
            return torch.full((), float(len(labels)), device=labels.device)
        return self.weights[labels].sum()

    def sample_landmarks(self, labels: Tensor) -> Tensor | None:
        """Draw the landmarks of this step: ``(C',)`` ascending numbers; None for all of them."""
        number = max(round(self.sample * self.landmarks), 2)
        if number >= self.landmarks:
            return None
        present = torch.unique(labels)
        priorities = torch.rand(self.landmarks).to(labels.device)
        priorities[present] = 2.0
        number = max(number, len(present))
        return priorities.topk(number, sorted=False).indices.sort().values

    @abstractmethod
    def scores(self, embeddings: Tensor, sampled: Tensor | None) -> Tensor:
        """Compare embeddings with the sampled landmarks: ``(n, d)`` → ``(n, C')``."""

    @abstractmethod
    def logits(self, scores: Tensor, labels: Tensor, columns: Tensor) -> Tensor:
        """Turn scores into logits.

        Args:
            scores: ``(n, C')``.
            labels: ``(n,)``, landmark of each picture among all.
            columns: ``(n,)``, its column in ``scores``.
        """


class CosineHead(Head):
    """A head that compares by cosine with the nearest of each landmark's ``K`` sub-centers.

    The sub-centers start uniform in ``±1/√d``, about 0.58 long whatever their number: an
    optimizer's step then turns them by the same angle, and its rate fits any number of landmarks.
    """

    def __init__(self, dimension: int, landmarks: int, *, centers: int = 1) -> None:
        super().__init__(landmarks)
        self.centers = centers
        bound = 1 / math.sqrt(dimension)
        weight = torch.empty(landmarks * centers, dimension).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)

    def scores(self, embeddings: Tensor, sampled: Tensor | None) -> Tensor:
        """Compute the cosines ``(n, C')``."""
        weight: Tensor = self.weight
        if sampled is not None:
            weight = take_rows(weight.view(self.landmarks, -1), sampled)
            weight = weight.view(len(sampled) * self.centers, -1)
        return nearest_cosines(embeddings, weight, self.centers)
