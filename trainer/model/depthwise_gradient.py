"""A fast gradient for strided depthwise convolutions on CPUs.

oneDNN has no fast kernel for the gradient of a strided depthwise convolution with respect to its
input: four such layers take half of a training step of MobileNetV2. The same gradient is a plain
depthwise convolution, with the kernel turned around, of the output's gradient spread out with
zeros between, and for that there is a fast kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_weight


class _StridedDepthwise(torch.autograd.Function):
    """Depthwise convolution ``(n, c, h, w)`` → ``(n, c, h', w')``, padded by half its kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:  # noqa: ANN401 - torch's own type
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        padding = (weight.shape[2] // 2, weight.shape[3] // 2)
        return functional.conv2d(x, weight, None, stride, padding, groups=weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: ANN401 - torch's own type
        x, weight = ctx.saved_tensors
        stride, groups = ctx.stride, weight.shape[0]
        padding = (weight.shape[2] // 2, weight.shape[3] // 2)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            spread = torch.zeros_like(x)
            spread[:, :, :: stride[0], :: stride[1]] = gradient
            of_x = functional.conv2d(spread, weight.flip(2, 3), None, 1, padding, groups=groups)
        if ctx.needs_input_grad[1]:
            of_weight = conv2d_weight(  # type: ignore[no-untyped-call]  # torch has no types there
                x, weight.shape, gradient, stride=stride, padding=padding, groups=groups
            )
        return of_x, of_weight, None


class StridedDepthwise(nn.Conv2d):
    """A strided depthwise convolution whose gradient is fast on CPUs."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve; as any convolution where no gradient is wanted or on another device."""
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            input, weight = input.to(kind), weight.to(kind)
        output: Tensor = _StridedDepthwise.apply(input, weight, self.stride)
        return output


def speed_up(network: nn.Module) -> None:
    """Give every strided depthwise convolution of a network the fast gradient, in place."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_strided_depthwise(module):
            module.__class__ = StridedDepthwise


def _is_strided_depthwise(layer: nn.Conv2d) -> bool:
    half = tuple(side // 2 for side in layer.kernel_size)
    return (
        layer.groups == layer.in_channels == layer.out_channels
        and max(layer.stride) > 1
        and all(side % 2 for side in layer.kernel_size)
        and layer.padding == half
        and layer.dilation == (1, 1)
        and layer.bias is None
        and layer.padding_mode == "zeros"
    )
