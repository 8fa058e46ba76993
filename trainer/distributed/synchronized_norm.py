"""Batch norms over the pictures of all processes, so that a shared batch is one batch.

torch has them for NVIDIA devices only; on the CPU, results would depend on the number of processes
without the one here. timm's batch norms also hold an activation, which has to stay.
"""

import torch
from torch import Tensor, nn
from torch.distributed.nn import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


class _Replacement(_BatchNorm):
    """A batch norm in place of another, with its parameters, statistics and activation."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.affine, self.track_running_stats = norm.affine, norm.track_running_stats
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.drop: nn.Module = getattr(norm, "drop", nn.Identity())
        self.act: nn.Module = getattr(norm, "act", nn.Identity())
        self.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize ``(n, c, …)``; ``n`` may differ between the processes, and be 0."""
        output: Tensor = self.act(self.drop(super().forward(input)))
        return output


class CudaSyncNorm(_Replacement, nn.SyncBatchNorm):
    """torch's, for NVIDIA devices."""


class CpuSyncNorm(_Replacement):
    """The same for CPUs, for norms with parameters, running statistics and a fixed momentum."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize ``(n, c, …)``; ``n`` may differ between the processes, and be 0."""
        if not self.training:
            return super().forward(input)
        output: Tensor = self.act(self.drop(self._normalize(input)))
        return output

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch
    def _normalize(self, input: Tensor) -> Tensor:
        values = input.float()
        dims = [0, *range(2, input.ndim)]
        shape = (1, -1, *[1] * (input.ndim - 2))
        count = values.new_tensor([values.numel() // values.shape[1]])
        sums = _sum(torch.cat([values.sum(dims), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centered = values - mean.view(shape)
        variance = _sum(centered.square().sum(dims)) / total
        self._track(mean.detach(), variance.detach() * total / (total - 1))
        normalized = centered * (variance + self.eps).rsqrt().view(shape)
        output = normalized * self.weight.view(shape) + self.bias.view(shape)
        return output.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        running = (self.running_mean, self.running_var, self.num_batches_tracked, self.momentum)
        running_mean, running_var, batches, momentum = running
        if running_mean is None or running_var is None or batches is None or momentum is None:
            raise ValueError("only norms with running statistics and momentum are synchronized")
        batches.add_(1)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance, momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept rows and feature maps alike."""


def synchronize_norms(network: nn.Module, device: torch.device) -> None:
    """Replace every batch norm of a network by a synchronized one, in place."""
    kind = CudaSyncNorm if device.type == "cuda" else CpuSyncNorm
    for name, module in list(network.named_modules()):
        if isinstance(module, _BatchNorm):
            parent, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, kind(module))


def _sum(values: Tensor) -> Tensor:
    """Sum a tensor over the processes; its gradient is summed likewise."""
    total: Tensor = all_reduce(values)  # type: ignore[no-untyped-call]  # torch
    return total
