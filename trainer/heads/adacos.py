"""AdaCos: plain cosines times a scale that is computed, not chosen.

Zhang et al., *AdaCos: Adaptively Scaling Cosine Logits for Effectively Learning Deep Face
Representations*, CVPR 2019. The variant ``semi`` is that of a Google Landmark Retrieval 2020
system: the paper's dynamic scale with its average over the batch held at its first value.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from embedder.errors import TrainingError
from trainer.heads.head import CosineHead

_WIDEST = math.pi / 4
"""The median angle counts as at most this, or the scale would grow without bound."""

_SMALLEST = 1e-3
"""Few landmarks, all far away, could turn the dynamic scale negative."""


class AdaCos(CosineHead):
    """Cosines times an adaptive scale.

    With C landmarks and ``θ`` the median angle between a batch's pictures and their landmarks:

    - fixed: ``s = √2·ln(C - 1)``
    - semi: ``s = ln(C - 1) / cos(min(π/4, θ))``, between ``ln(C - 1)`` and the fixed one
    - dynamic: ``s = ln(B) / cos(min(π/4, θ))``, where B is the mean over the batch of
      ``Σ exp(s'·cos)`` over the wrong landmarks and s' the scale of the step before, at first
      the fixed one

    No gradient goes through the scale.

    Args:
        dimension: Length ``d`` of the embeddings.
        landmarks: Their number ``C``, at least 3.
        variant: One of the above.
        weights: See :class:`~trainer.heads.head.Head`.
        sample: See :class:`~trainer.heads.head.Head`; ``dynamic`` needs all landmarks.

    Raises:
        TrainingError: With two landmarks the fixed scale would be 0.
    """

    scale: Tensor

    def __init__(
        self,
        dimension: int,
        landmarks: int,
        *,
        variant: Literal["fixed", "semi", "dynamic"],
        weights: Tensor | None = None,
        sample: float = 1.0,
    ) -> None:
        if landmarks < 3:
            raise TrainingError(f"AdaCos needs at least 3 landmarks; there are {landmarks}")
        super().__init__(dimension, landmarks, weights=weights, sample=sample)
        self.variant = variant
        fixed = torch.tensor(math.sqrt(2) * math.log(landmarks - 1))
        # The dynamic scale is part of the run's state; the others follow from the batch alone.
        self.register_buffer("scale", fixed, persistent=variant == "dynamic")

    def logits(self, scores: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """Scale the cosines."""
        if self.variant != "fixed":
            self.scale.copy_(self._adapted(scores.detach(), places))
        # A copy, since the gradient needs this step's scale and the next step overwrites it.
        return self.scale.clone() * scores

    def _adapted(self, cosines: Tensor, places: Tensor) -> Tensor:
        """Compute the scale of a batch."""
        true = cosines.gather(1, places[:, None])
        angle = true.clamp(-1, 1).acos().float().quantile(0.5)  # the mean of the middle two
        if self.variant == "semi":
            spread = self.scale.new_tensor(math.log(self.landmarks - 1))
        else:
            wrong = (self.scale * cosines).scatter(1, places[:, None], -math.inf)
            spread = wrong.flatten().logsumexp(0) - math.log(len(cosines))
        return (spread / angle.clamp_max(_WIDEST).cos()).clamp_min(_SMALLEST)
