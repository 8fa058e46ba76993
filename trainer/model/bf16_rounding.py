"""Round a network's weights to bfloat16 so that both precisions agree.

An engine that computes in bfloat16 folds each batch norm into the convolution before it and rounds
the product. Of all that bfloat16 changes in a trained network this rounding is by far the largest
part: it moves some embeddings by a cosine of 0.015, rounding the activations by 0.001. So the
weights are rounded here, once, before a network is validated and saved: what is measured, exported
and served is the same network in float32 and in bfloat16.
"""

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.model.network import EmbeddingNetwork


@torch.no_grad()
def with_rounded_weights(network: EmbeddingNetwork) -> EmbeddingNetwork:
    """Copy a network with the weights of its convolutions and linear layers rounded.

    Each is rounded as it will be after the batch norm that follows it is folded in. A norm counts
    as following if it stands next in its parent and has as many channels. The copy is in
    evaluation mode.
    """
    copied = copy.deepcopy(network).eval()
    for parent in copied.modules():
        for layer, following in itertools.pairwise([*parent.children(), None]):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                scale = _folded_scale(layer, following)
                layer.weight.copy_((layer.weight * scale).bfloat16().float() / scale)
    return copied


def _folded_scale(layer: nn.Conv2d | nn.Linear, following: nn.Module | None) -> Tensor:
    """Return the factor of each output channel's weights, in a shape that broadcasts to them."""
    shape = (-1, *[1] * (layer.weight.ndim - 1))
    channels = layer.weight.shape[0]
    if not isinstance(following, _BatchNorm) or following.num_features != channels:
        return layer.weight.new_ones(channels).view(shape)
    if following.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    scale = following.weight / (following.running_var + following.eps).sqrt()
    return torch.where(scale == 0, torch.ones_like(scale), scale).view(shape)
