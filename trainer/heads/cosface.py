"""CosFace: the true landmark's cosine made smaller by a margin.

Wang et al., *CosFace: Large Margin Cosine Loss for Deep Face Recognition*, CVPR 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.heads.head import CosineHead


class CosFace(CosineHead):
    """Scaled cosines, the true landmark's less its margin.

    Args:
        dimension: Length ``d`` of the embeddings.
        landmarks: Their number ``C``.
        scale: What the cosines are multiplied by.
        margin: What is taken off the true cosine.
        weights: See :class:`~trainer.heads.head.Head`.
        sample: See :class:`~trainer.heads.head.Head`.
    """

    def __init__(
        self,
        dimension: int,
        landmarks: int,
        *,
        scale: float,
        margin: float,
        weights: Tensor | None = None,
        sample: float = 1.0,
    ) -> None:
        super().__init__(dimension, landmarks, weights=weights, sample=sample)
        self.scale = scale
        self.margin = margin

    def logits(self, scores: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """Take the margin off the true cosines, then scale."""
        taken = torch.full_like(scores[:, :1], -self.margin)
        return self.scale * scores.scatter_add(1, places[:, None], taken)
