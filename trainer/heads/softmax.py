"""Softmax: a linear classifier, whose inputs serve as embeddings."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.heads.cosines import take_rows
from trainer.heads.head import Head


class Softmax(Head):
    """A linear layer with bias, of features after an optional ReLU and dropout."""

    def __init__(
        self, dimension: int, landmarks: int, *, relu: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__(landmarks)
        self.relu = relu
        self.dropout = nn.Dropout(dropout)
        bound = 1 / math.sqrt(dimension)  # the initialization of torch.nn.Linear
        self.weight = nn.Parameter(torch.empty(landmarks, dimension).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(landmarks).uniform_(-bound, bound))

    def scores(self, embeddings: Tensor, sampled: Tensor | None) -> Tensor:
        """Apply the linear layer."""
        features = self.dropout(embeddings.relu() if self.relu else embeddings)
        if sampled is None:
            return functional.linear(features, self.weight, self.bias)
        weight = take_rows(self.weight, sampled)
        return functional.linear(features, weight, self.bias[sampled])

    def logits(self, scores: Tensor, labels: Tensor, columns: Tensor) -> Tensor:
        """Return the scores."""
        return scores
