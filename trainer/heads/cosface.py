"""CosFace: a margin subtracted from the true landmark's cosine.

Wang et al., *CosFace: Large Margin Cosine Loss for Deep Face Recognition*, CVPR 2018.
"""

import torch
from torch import Tensor

from trainer.heads.head import CosineHead


class CosFace(CosineHead):
    """Scaled cosines, the true landmark's minus the margin."""

    def __init__(self, dimension: int, landmarks: int, *, scale: float, margin: float) -> None:
        super().__init__(dimension, landmarks)
        self.scale = scale
        self.margin = margin

    def logits(self, scores: Tensor, labels: Tensor, columns: Tensor) -> Tensor:
        """Subtract the margin from the true cosines, then scale."""
        margins = torch.full_like(scores[:, :1], -self.margin)
        return self.scale * scores.scatter_add(1, columns[:, None], margins)
