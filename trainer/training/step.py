"""From a batch to its gradients, however many processes share it and in however many parts."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from embedder.errors import TrainingError
from trainer.data.normalize import Normalize
from trainer.distributed import processes
from trainer.heads import Head
from trainer.model.network import EmbeddingNetwork

Precision = Literal["f32", "bf16", "fp16"]

AUTOCAST: dict[Precision, torch.dtype | None] = {
    "f32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
"""The type that the network is computed in, by the name of the precision."""


class GradientStep:
    """Computes the gradients of the mean loss over a batch.

    Every process embeds its own pictures; the embeddings are gathered, and every process computes
    the same loss of all of them, so that any head sees the whole batch. The gradients of the
    network are averaged by :class:`~torch.nn.parallel.DistributedDataParallel`; those of the head
    are equal in all processes from the start.

    Args:
        network: What is frozen in it has to stay so as long as this object is used.
        head: The same in every process.
        normalize: What turns pixels into the network's input, on its device.
        scaler: Scales the loss, and so the gradients, where float16 could not hold them.
        autocast: Type that the network is computed in; None: float32.
        compiled: Compile the network.
    """

    def __init__(
        self,
        network: EmbeddingNetwork,
        head: Head,
        normalize: Normalize,
        scaler: torch.amp.GradScaler,
        *,
        autocast: torch.dtype | None,
        compiled: bool,
    ) -> None:
        self._head = head
        self._normalize = normalize
        self._scaler = scaler
        self._autocast = autocast
        self._device = next(network.parameters()).device
        self._embed: nn.Module = _UnscaledEmbeddings(network, compiled=compiled)
        if processes.size() > 1:
            processes.broadcast_parameters(head)
            if any(parameter.requires_grad for parameter in network.parameters()):
                # Weights in channels-last order: DDP copies their gradients once more.
                warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
                self._embed = DistributedDataParallel(self._embed)

    def compute_gradients(
        self, pictures: Tensor, labels: Sequence[Tensor], *, parts: int, seed: int
    ) -> Tensor:
        """Add the scaled gradients of a batch to those of the parameters; return the mean loss.

        Args:
            pictures: ``(n, side, side, 3)`` uint8, those of this process.
            labels: Landmark numbers of each process's pictures, the same list in every process.
            parts: So many parts go through the network one after another, to save memory; fewer
                where there are too few pictures.
            seed: Of the head's random numbers, which several processes have to share.

        Raises:
            TrainingError: torch.compile failed.
        """
        most = min(map(len, labels)) if len(labels) > 1 else len(labels[0]) // 2
        parts = max(1, min(parts, most))
        whole = self._head.weight_sum(self._joined(labels))
        picture_parts = pictures.tensor_split(parts)
        label_parts = zip(*(of_process.tensor_split(parts) for of_process in labels), strict=True)
        losses = []
        for number, (own, theirs) in enumerate(zip(picture_parts, label_parts, strict=True)):
            with nullcontext() if number + 1 == parts else self._without_averaging():
                loss = self._mean_loss(own, theirs, seed + number)
                loss = loss * (self._head.weight_sum(self._joined(theirs)) / whole)
                torch.autograd.backward(self._scaler.scale(loss))
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _mean_loss(self, pictures: Tensor, labels: Sequence[Tensor], seed: int) -> Tensor:
        normalized = self._normalize(pictures)
        with torch.autocast(self._device.type, self._autocast, enabled=bool(self._autocast)):
            embeddings = self._embed(normalized)
        rows = processes.gather_rows(embeddings, [len(of_process) for of_process in labels])
        with processes.shared_rng(seed):
            loss: Tensor = self._head(rows, self._joined(labels))
        return loss

    def _joined(self, labels: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(labels)).to(self._device, non_blocking=True)

    def _without_averaging(self) -> AbstractContextManager[None]:
        """Leave the averaging of gradients over the processes to a later part."""
        if isinstance(self._embed, DistributedDataParallel):
            return self._embed.no_sync()
        return nullcontext()


class _UnscaledEmbeddings(nn.Module):
    """A network up to the embeddings that heads take, as a module for DDP."""

    def __init__(self, network: EmbeddingNetwork, *, compiled: bool) -> None:
        super().__init__()
        self.network = network
        embed = network.embed_unnormalized
        self._embed = _compile(embed) if compiled else embed

    def forward(self, pictures: Tensor) -> Tensor:
        """Embed ``(n, 3, side, side)`` pictures: ``(n, d)`` float32."""
        return self._embed(pictures)


def _compile(embed: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Compile a function at its first call; a failure becomes an error with advice."""
    from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

    compiled = torch.compile(embed)

    def call(pictures: Tensor) -> Tensor:
        try:
            return compiled(pictures)
        except TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise TrainingError(
                f"torch.compile cannot compile this network here; set compile=false ({reason})"
            ) from error

    return call
