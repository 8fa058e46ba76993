"""Softmax: a plain linear classifier, whose inputs serve as embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.heads.head import Head
from trainer.heads.nearest import take_rows


class Softmax(Head):
    """A linear layer with bias.

    Args:
        dimension: Length ``d`` of the embeddings.
        landmarks: Their number ``C``.
        relu: Cut negative features off first.
        dropout: Dropped part of the features.
        weights: See :class:`~trainer.heads.head.Head`.
        sample: See :class:`~trainer.heads.head.Head`.
    """

    def __init__(
        self,
        dimension: int,
        landmarks: int,
        *,
        relu: bool = False,
        dropout: float = 0.0,
        weights: Tensor | None = None,
        sample: float = 1.0,
    ) -> None:
        super().__init__(landmarks, weights=weights, sample=sample)
        self.relu = relu
        self.dropout = nn.Dropout(dropout)
        bound = 1 / math.sqrt(dimension)  # as torch.nn.Linear begins
        self.weight = nn.Parameter(torch.empty(landmarks, dimension).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(landmarks).uniform_(-bound, bound))

    def scores(self, embeddings: Tensor, chosen: Tensor | None) -> Tensor:
        """Apply the linear layer."""
        features = self.dropout(embeddings.relu() if self.relu else embeddings)
        if chosen is None:
            return functional.linear(features, self.weight, self.bias)
        weight = take_rows(self.weight, chosen)
        return functional.linear(features, weight, self.bias[chosen])

    def logits(self, scores: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """Take the scores as they are."""
        return scores
