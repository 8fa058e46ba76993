"""Batch norms that see the pictures of all processes, so that a batch is one batch.

torch has them for NVIDIA devices only. Here they also work on the CPU, and the activation that
timm puts into a batch norm stays in it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.distributed.processes import sum_everywhere


class _Adopting(_BatchNorm):
    """A batch norm in place of another, with its parameters, statistics and activation."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.affine, self.track_running_stats = norm.affine, norm.track_running_stats
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.drop: nn.Module = getattr(norm, "drop", nn.Identity())
        self.act: nn.Module = getattr(norm, "act", nn.Identity())
        self.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize ``(n, c, …)``; ``n`` may differ between the processes, and be 0."""
        output: Tensor = self.act(self.drop(super().forward(input)))
        return output


class DeviceNorm(_Adopting, nn.SyncBatchNorm):
    """torch's, for NVIDIA devices."""


class ProcessorNorm(_Adopting):
    """The same for CPUs."""

    def forward(self, input: Tensor) -> Tensor:
        """See above."""
        if not self.training:
            return super().forward(input)
        output: Tensor = self.act(self.drop(self._normalize(input)))
        return output

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch
    def _normalize(self, input: Tensor) -> Tensor:
        values = input.float()
        places = [0, *range(2, input.ndim)]
        shape = (1, -1, *[1] * (input.ndim - 2))
        here = values.new_tensor([values.numel() // values.shape[1]])
        everywhere = sum_everywhere(torch.cat([values.sum(places), here]))
        number = everywhere[-1].detach()
        mean = everywhere[:-1] / number
        centered = values - mean.view(shape)
        variance = sum_everywhere(centered.square().sum(places)) / number
        self._track(mean.detach(), variance.detach() * number / (number - 1))
        output = centered * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            output = output * self.weight.view(shape) + self.bias.view(shape)
        return output.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        step = self.momentum
        if step is None:  # the mean over all batches
            step = 1 / int(self.num_batches_tracked or 1)
        self.running_mean.lerp_(mean, step)
        self.running_var.lerp_(variance, step)

    def _check_input_dim(self, input: Tensor) -> None:
        """Take rows and maps alike."""


def synchronize_norms(network: nn.Module, device: torch.device) -> None:
    """Replace every batch norm of a network by a synchronized one, in place."""
    kind = DeviceNorm if device.type == "cuda" else ProcessorNorm
    for name, module in list(network.named_modules()):
        if isinstance(module, _BatchNorm):
            parent, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, kind(module))
