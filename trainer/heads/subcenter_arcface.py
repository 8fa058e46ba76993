"""Sub-center ArcFace with a margin for each landmark.

Deng et al., *Sub-center ArcFace: Boosting Face Recognition by Large-scale Noisy Web Faces*, ECCV
2020; the dynamic margins are those of the third place of Google Landmark Recognition 2020 (Ha et
al., arXiv:2010.05350).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.heads.head import CosineHead


def dynamic_margins(
    counts: NDArray[np.int64], *, smallest: float = 0.05, largest: float = 0.5
) -> NDArray[np.float64]:
    """Return a margin per landmark, larger the rarer it is.

    ``t = n^(-1/4)``, scaled so that the most frequent landmark gets ``smallest`` and the rarest
    ``largest``. If all have equally many pictures, all get ``smallest``.

    ``(C,)`` pictures of each landmark, all positive → ``(C,)`` radians.

    >>> dynamic_margins(np.array([1, 16, 10000])).round(4).tolist()
    [0.5, 0.25, 0.05]
    >>> dynamic_margins(np.array([7, 7])).tolist()
    [0.05, 0.05]
    """
    rarity = counts.astype(np.float64) ** -0.25
    spread = rarity.max() - rarity.min()
    if spread == 0:
        return np.full(len(counts), smallest)
    margins: NDArray[np.float64] = (largest - smallest) * (rarity - rarity.min()) / spread
    return margins + smallest


class SubcenterArcFace(CosineHead):
    """Scaled cosines with an angular margin, ``(C,)`` radians; with ``K`` = 1, ArcFace."""

    margins: Tensor

    def __init__(self, dimension: int, margins: Tensor, *, centers: int, scale: float) -> None:
        super().__init__(dimension, len(margins), centers=centers)
        self.scale = scale
        self.register_buffer("margins", margins)

    def logits(self, scores: Tensor, labels: Tensor, columns: Tensor) -> Tensor:
        """Add the margins to the true angles, then scale."""
        return self.scale * add_angular_margins(scores, columns, self.margins[labels])


def add_angular_margins(cosines: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """Replace each true landmark's ``cos θ`` by ``cos(θ + m)``.

    Where ``θ + m`` exceeds π, the cosine would rise again; there it is replaced by the straight
    line ``cos θ - m·sin m``. The sine is kept above zero, where its gradient is not finite.

    Args:
        cosines: ``(n, C)``.
        labels: ``(n,)``.
        margins: ``(n,)``, radians, of each true landmark.
    """
    true = cosines.gather(1, labels[:, None]).squeeze(1)
    sines = (1 - true * true).clamp_min(1e-12).sqrt()
    rotated = true * margins.cos() - sines * margins.sin()
    moved = torch.where(true > -margins.cos(), rotated, true - margins * margins.sin())
    return cosines.scatter(1, labels[:, None], moved[:, None])
