"""Backbone → pooling → neck: the network that turns pictures into embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from trainer.model.backbone import channels_of, make_backbone, require_class_token, submodule
from trainer.model.pooling import ClassToken, make_pooling
from trainer.recipe import NetworkRecipe
from trainer.recipe.network import HiddenNeckRecipe, LinearNeckRecipe, NeckRecipe


class EmbeddingNetwork(nn.Module):
    """An embedding network in training.

    Args:
        recipe: Its parts.
        weights: Safetensors file of the backbone, in timm's names.

    Attributes:
        dimension: Length of the embedding.

    Raises:
        RecipeError: timm has no such backbone, or no pretrained weights of it, or the backbone
            lacks a part that the recipe names.
        ArtifactMissingError: There is no file of weights.
        ArtifactDamagedError: The weights are not of this backbone.
    """

    def __init__(self, recipe: NetworkRecipe, *, weights: Path | None = None) -> None:
        super().__init__()
        self.backbone, classifier = make_backbone(recipe, weights)
        self._frozen = recipe.frozen
        for name in self._frozen:
            submodule(self.backbone, name)  # a name that is not there is an error now
        self._channels = channels_of(self.backbone)
        self.pooling, width = make_pooling(recipe.pooling, self._channels)
        if isinstance(self.pooling, ClassToken):
            require_class_token(self.backbone, recipe.backbone)
        self.dropout = nn.Dropout(recipe.dropout)
        self.neck, self.dimension = _make_neck(recipe.neck, width, classifier)

    def embed_unnormalized(self, pictures: Tensor) -> Tensor:
        """Compute embeddings before they are scaled to length 1, as heads take them.

        ``(n, 3, side, side)`` normalized pictures → ``(n, d)`` float32.
        """
        features = self.backbone(pictures)
        if not isinstance(self.pooling, ClassToken):
            features = self._as_maps(features)
        rows: Tensor = self.neck(self.dropout(self.pooling(features)))
        return rows.float()

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute unit embeddings ``(n, d)`` of ``(n, 3, side, side)`` pictures."""
        return functional.normalize(self.embed_unnormalized(pictures))

    def set_training_mode(self, *, backbone: bool) -> None:
        """Put all trained parts into training mode, and switch off the gradients of the others.

        Parts of the backbone that the recipe freezes stay so, also if ``backbone`` is true.
        """
        self.train()
        self.backbone.requires_grad_(backbone).train(backbone)
        for name in self._frozen:  # looked up anew: norms may have been replaced since
            submodule(self.backbone, name).requires_grad_(requires_grad=False).eval()

    def fix_input_side(self, side: int) -> None:
        """Resize a transformer's position embedding to one picture side, before export.

        Until then it is resized in every pass, and exported graphs resize differently.
        """
        if getattr(self.backbone, "pos_embed", None) is not None:
            backbone: Any = self.backbone
            backbone.set_input_size(img_size=(side, side))

    def _as_maps(self, features: Tensor) -> Tensor:
        """Bring a backbone's features to ``(n, c, h, w)``; tokens lie along the height."""
        if features.ndim == 3:  # a transformer's tokens; the first ones stand for no position
            prefix = int(getattr(self.backbone, "num_prefix_tokens", 0))
            return features[:, prefix:].transpose(1, 2).unsqueeze(-1)
        if features.shape[1] != self._channels:  # channels last
            return features.permute(0, 3, 1, 2)
        return features


def _make_neck(
    recipe: NeckRecipe, width: int, classifier: nn.Linear | None
) -> tuple[nn.Module, int]:
    """Make the neck for pooled features of a width; return it with the length of the embedding."""
    if isinstance(recipe, LinearNeckRecipe):
        following: dict[str, list[nn.Module]] = {
            "nothing": [],
            "swish": [nn.SiLU()],
            "batchnorm": [nn.BatchNorm1d(recipe.dimension)],
            "batchnorm-prelu": [nn.BatchNorm1d(recipe.dimension), nn.PReLU()],
        }
        linear = nn.Linear(width, recipe.dimension)
        return nn.Sequential(linear, *following[recipe.after]), recipe.dimension
    if isinstance(recipe, HiddenNeckRecipe):
        layers = (
            nn.Linear(width, recipe.hidden),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
            nn.Linear(recipe.hidden, recipe.dimension),
        )
        return nn.Sequential(*layers), recipe.dimension
    if classifier is not None:
        return classifier, classifier.out_features
    return nn.Identity(), width
