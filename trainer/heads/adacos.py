"""AdaCos: cosines times a scale that is computed, not chosen.

Zhang et al., *AdaCos: Adaptively Scaling Cosine Logits for Effectively Learning Deep Face
Representations*, CVPR 2019. The variant ``semi`` is that of a Google Landmark Retrieval 2020
system: the paper's dynamic scale with its average over the batch fixed at the initial value.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from embedder.errors import TrainingError
from trainer.heads.head import CosineHead

_MAX_ANGLE = math.pi / 4  # the median angle is clamped to this, or the scale grows without bound
_MIN_SCALE = 1e-3  # with few landmarks, all far away, the dynamic scale could become negative


class AdaCos(CosineHead):
    """Cosines times an adaptive scale.

    With C landmarks and ``θ`` the median angle between a batch's pictures and their landmarks:

    - fixed: ``s = √2·ln(C - 1)``
    - semi: ``s = ln(C - 1) / cos(min(π/4, θ))``, between ``ln(C - 1)`` and the fixed one
    - dynamic: ``s = ln(B) / cos(min(π/4, θ))``, where B is the mean over the batch of
      ``Σ exp(s'·cos)`` over the wrong landmarks and s' the scale of the step before, at first
      the fixed one

    No gradient goes through the scale.

    The dynamic variant needs all landmarks in every step.

    Raises:
        TrainingError: With two landmarks the fixed scale would be 0.
    """

    scale: Tensor

    def __init__(
        self, dimension: int, landmarks: int, *, variant: Literal["fixed", "semi", "dynamic"]
    ) -> None:
        if landmarks < 3:
            raise TrainingError(f"AdaCos needs at least 3 landmarks; there are {landmarks}")
        super().__init__(dimension, landmarks)
        self.variant = variant
        fixed = torch.tensor(math.sqrt(2) * math.log(landmarks - 1))
        # Only the dynamic scale depends on earlier steps.
        self.register_buffer("scale", fixed, persistent=variant == "dynamic")

    def logits(self, scores: Tensor, labels: Tensor, columns: Tensor) -> Tensor:
        """Scale the cosines."""
        if self.variant != "fixed":
            self.scale.copy_(self._adapted(scores.detach(), columns))
        # A copy, since the gradient needs this step's scale and the next step overwrites it.
        return self.scale.clone() * scores

    def _adapted(self, cosines: Tensor, columns: Tensor) -> Tensor:
        true = cosines.gather(1, columns[:, None])
        angle = true.clamp(-1, 1).acos().float().quantile(0.5)  # the mean of the middle two
        if self.variant == "semi":
            spread = self.scale.new_tensor(math.log(self.landmarks - 1))
        else:
            wrong = (self.scale * cosines).scatter(1, columns[:, None], -math.inf)
            spread = wrong.flatten().logsumexp(0) - math.log(len(cosines))
        return (spread / angle.clamp_max(_MAX_ANGLE).cos()).clamp_min(_MIN_SCALE)
