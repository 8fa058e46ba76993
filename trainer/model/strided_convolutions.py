"""Strided convolutions on CPUs whose gradient is fast, or does not end the process.

oneDNN has no fast kernel for the gradient of a strided depthwise convolution with respect to its
input: four such layers take half of a training step of MobileNetV2. The same gradient is a plain
depthwise convolution with the flipped kernel over the output's gradient, dilated with zeros, and
for that there is a fast kernel.

The gradient of a strided convolution of 1 × 1 pixels with respect to its weights is wrong memory
access in oneDNN where few channels come in and they lie last: it reads and writes whole vector
registers of channels. Re-parametrized networks such as RepVGG begin with such a layer. It is the
same layer without a stride, on the pixels that the stride leaves.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_weight

_VECTOR_CHANNELS = 16  # of the widest registers


class _DepthwiseFunction(torch.autograd.Function):
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
        x_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            dilated = torch.zeros_like(x)
            dilated[:, :, :: stride[0], :: stride[1]] = gradient
            flipped = weight.flip(2, 3)
            x_gradient = functional.conv2d(dilated, flipped, None, 1, padding, groups=groups)
        if ctx.needs_input_grad[1]:
            weight_gradient = conv2d_weight(  # type: ignore[no-untyped-call]  # torch's is untyped
                x, weight.shape, gradient, stride=stride, padding=padding, groups=groups
            )
        return x_gradient, weight_gradient, None


class StridedDepthwise(nn.Conv2d):
    """A strided depthwise convolution whose gradient is fast on CPUs."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve; without gradients or on another device, as any convolution."""
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            input, weight = input.to(dtype), weight.to(dtype)
        output: Tensor = _DepthwiseFunction.apply(input, weight, self.stride)
        return output


class StridedPointwise(nn.Conv2d):
    """A strided convolution of 1 × 1 pixels and few channels."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve; without gradients or on another device, as any convolution."""
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input)
        down, across = self.stride
        kept = input[:, :, ::down, ::across]
        return functional.conv2d(kept, self.weight, self.bias, groups=self.groups)


def use_cpu_gradients(network: nn.Module) -> None:
    """Replace the gradients of a network's strided convolutions where that pays, in place."""
    for module in network.modules():
        if type(module) is nn.Conv2d:
            if _is_strided_depthwise(module):
                module.__class__ = StridedDepthwise
            elif _is_strided_pointwise(module):
                module.__class__ = StridedPointwise


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


def _is_strided_pointwise(layer: nn.Conv2d) -> bool:
    return (
        layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels < _VECTOR_CHANNELS
        and layer.padding == (0, 0)
    )
