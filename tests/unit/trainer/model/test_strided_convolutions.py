"""Strided convolutions on CPUs have the gradients of any convolution."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from trainer.model.strided_convolutions import (
    StridedDepthwise,
    StridedPointwise,
    use_cpu_gradients,
)


def gradients(layer: nn.Conv2d, pictures: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    """Compute a layer's output and the gradients of its weighted sum."""
    asked = pictures.clone().requires_grad_()
    output = layer(asked)
    (output * weights[: output.shape[0], :, : output.shape[2], : output.shape[3]]).sum().backward()
    assert asked.grad is not None
    assert layer.weight.grad is not None
    return output.detach(), asked.grad, layer.weight.grad


@pytest.mark.parametrize("side", [7, 8, 9])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, (2, 1)), (3, 3)])
def test_gradients_equal_those_of_a_plain_convolution(
    kernel: int, stride: int | tuple[int, int], side: int
) -> None:
    """In float64, for odd and even sides."""
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 4, kernel, stride, kernel // 2, groups=4, bias=False).double()
    fast = copy.deepcopy(plain)
    use_cpu_gradients(nn.Sequential(fast))
    assert type(fast) is StridedDepthwise
    pictures, weights = torch.randn(2, 2, 4, side, side, dtype=torch.float64)
    wanted, got = (gradients(layer, pictures, weights) for layer in (plain, fast))
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("stride", [2, (2, 1), 3])
def test_few_channels_by_one_pixel_have_the_gradients_of_a_plain_convolution(
    stride: int | tuple[int, int], side: int
) -> None:
    """In float64 and in the usual order of channels, in which oneDNN does not break."""
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 5, 1, stride).double()
    safe = copy.deepcopy(plain)
    use_cpu_gradients(nn.Sequential(safe))
    assert type(safe) is StridedPointwise
    pictures = torch.randn(2, 3, side, side, dtype=torch.float64)
    weights = torch.randn(2, 5, side, side, dtype=torch.float64)
    wanted, got = (gradients(layer, pictures, weights) for layer in (plain, safe))
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


def test_autocast_computes_in_bfloat16_and_keeps_the_weights_precision() -> None:
    """As a plain convolution does."""
    layer = nn.Conv2d(4, 4, 3, 2, 1, groups=4, bias=False)
    use_cpu_gradients(nn.Sequential(layer))
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(torch.randn(2, 4, 8, 8))
    assert output.dtype is torch.bfloat16
    output.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype is torch.float32


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 4, 3, 1, 1, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, 2, 0, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, 2, 1, bias=False),
        nn.Conv2d(4, 4, 3, 2, 1, groups=4),
        nn.Conv2d(4, 4, 3, 2, 2, dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 4, 2, 2, 1, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, 2, 1, groups=4, bias=False, padding_mode="reflect"),
        nn.Conv2d(4, 8, 3, 2, 1, groups=4, bias=False),
        nn.Conv2d(16, 8, 1, 2),
        nn.Conv2d(4, 8, 1, 1),
        nn.Conv2d(4, 8, 1, 2, 1),
    ],
)
def test_other_convolutions_stay_as_they_are(other: nn.Conv2d) -> None:
    """Not strided, neither depthwise nor of few channels, or padded otherwise."""
    use_cpu_gradients(nn.Sequential(other))
    assert type(other) is nn.Conv2d
