"""Everything of a run that changes while it trains; how it takes a step, is saved and restored."""

import copy
import gc
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trainer.data.normalize import Normalize
from trainer.distributed import processes
from trainer.heads import Head
from trainer.model import checkpoint
from trainer.model.checkpoint import Progress
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import OptimizerRecipe, Recipe
from trainer.training.checkpoint_writer import is_finite, not_finite
from trainer.training.step import AUTOCAST, GradientStep, Precision


class TrainingState:
    """Network, head, optimizer, moving average, progress and history of a run.

    All processes hold the same state but for their random numbers; the first one saves it.

    Attributes:
        landmarks: Their ids in the order of the head's classes.
        averaged: Moving average of the network's weights; the network itself if there is none.
        history: The metrics of each finished epoch.
        updates: Steps of the optimizer so far.
        unreadable: Ids of training pictures that could not be read.
    """

    def __init__(
        self,
        network: EmbeddingNetwork,
        head: Head,
        recipe: Recipe,
        *,
        landmarks: Sequence[str],
        precision: Precision,
    ) -> None:
        self.network = network
        self.averaged = copy.deepcopy(network) if recipe.ema else network
        self.progress = Progress()
        self.history: list[dict[str, Any]] = []
        self.unreadable: set[str] = set()
        self.updates = 0
        self._recipe = recipe
        self._autocast = AUTOCAST[precision]
        device = next(network.parameters()).device.type
        self._scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
        self._frozen = False
        self.replace_head(head, landmarks)

    def replace_head(self, head: Head, landmarks: Sequence[str]) -> None:
        """Continue with another head and a new optimizer."""
        self.head = head
        self.landmarks = landmarks
        self.optimizer = _make_optimizer(self.network, head, self._recipe.optimizer)
        self._gradient_step: GradientStep | None = None
        self._unclipped_norm: Tensor | None = None

    def freeze_backbone(self, *, frozen: bool) -> None:
        """Put the network into training mode, without the backbone if ``frozen``."""
        self.network.set_training_mode(backbone=not frozen)
        if frozen != self._frozen:
            self._frozen, self._gradient_step = frozen, None

    def set_learning_rates(self, *, backbone: float, head: float) -> None:
        """Set the learning rates of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = backbone if group["part"] == "backbone" else head

    def step(self, pictures: Tensor, labels: Sequence[Tensor], parts: int, seed: int) -> Tensor:
        """Take one step of the optimizer; arguments as for :class:`GradientStep`.

        Returns:
            The mean loss before the step, still on the device.
        """
        if self._gradient_step is None:
            gc.collect()  # DDP of the previous one would go on averaging gradients
            self._gradient_step = GradientStep(
                self.network,
                self.head,
                Normalize(self._recipe.embed, next(self.network.parameters()).device),
                self._scaler,
                autocast=self._autocast,
                compiled=self._recipe.compile,
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._gradient_step.compute_gradients(pictures, labels, parts=parts, seed=seed)
        self._scaler.unscale_(self.optimizer)
        if limit := self._recipe.optimizer.clip_norm:
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
            self._unclipped_norm = norm
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.updates += 1
        if self._recipe.ema:
            self._update_average()
        return loss

    def gradient_norms(self) -> dict[str, float]:
        """Return the norms of the last step's gradients, of network and head, before clipping."""
        norms = {
            name: nn.utils.get_total_norm(
                [p.grad for p in module.parameters() if p.grad is not None]
            )
            for name, module in (("network", self.network), ("head", self.head))
        }
        if self._unclipped_norm is not None:
            norms["network"] = self._unclipped_norm
        return {name: float(norm) for name, norm in norms.items()}

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averaged weights towards the network's.

        The decay starts low, ``(1 + t) / (10 + t)``, so that the random start is soon forgotten.
        torch's AveragedModel has no such warm-up, and its first update copies: so only its
        arithmetic is used.
        """
        decay = min(self._recipe.ema, (1 + self.updates) / (10 + self.updates))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch
        averaged, current = self.averaged.state_dict(), self.network.state_dict()
        floats = [name for name, tensor in averaged.items() if tensor.is_floating_point()]
        average([averaged[n] for n in floats], [current[n] for n in floats], self.updates)
        for name in averaged.keys() - floats:  # counts of batches
            averaged[name].copy_(current[name])

    def require_finite(self, loss: Tensor, run: Path, *, weights: bool = False) -> float:
        """Return a loss as a number, if it is finite; with ``weights`` if these are, too.

        Raises:
            TrainingError: It is not; the last good checkpoint stays.
        """
        tensors = [loss, *(self.tensors().values() if weights else ())]
        if not all(map(is_finite, tensors)):
            raise not_finite(run)
        return float(loss)

    def tensors(self) -> dict[str, Tensor]:
        """Name the tensors of the modules and of the optimizer, themselves, for a checkpoint."""
        parts = {name: module.state_dict() for name, module in self._modules().items()}
        parts["optimizer"] = checkpoint.optimizer_tensors(self.optimizer)
        return checkpoint.join_parts(parts)

    def gather_rng_states(self) -> dict[str, Tensor]:
        """Name the state of every process's random numbers; every process has to call this."""
        states = processes.gather(_rng_state())
        return checkpoint.join_parts({f"rng.{number}": own for number, own in enumerate(states)})

    def facts(self, digest: str) -> dict[str, Any]:
        """Return what is not a tensor, for a checkpoint; with the digest of the run's inputs."""
        return {
            "recipe": digest,
            "landmarks": list(self.landmarks),
            "progress": asdict(self.progress),
            "updates": self.updates,
            "history": list(self.history),
            "unreadable": sorted(self.unreadable),
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Restore what a checkpoint holds, with the head of the same stage.

        Processes beyond those that wrote it start with random numbers of their own.
        """
        for name, module in self._modules().items():
            module.load_state_dict(checkpoint.part(tensors, name))
        checkpoint.restore_optimizer(self.optimizer, checkpoint.part(tensors, "optimizer"))
        self.progress = Progress(**facts["progress"])
        self.updates = facts["updates"]
        self.history = facts["history"]
        self.unreadable = set(facts["unreadable"])
        if scaler := facts.get("scaler"):  # not in files of before
            self._scaler.load_state_dict(scaler)
        rng_state = checkpoint.part(tensors, f"rng.{processes.rank()}")
        if not rng_state:
            self.seed_process()
            return
        torch.set_rng_state(rng_state["cpu"])
        if "cuda" in rng_state and torch.cuda.is_available():
            torch.cuda.set_rng_state(rng_state["cuda"])

    def _modules(self) -> dict[str, nn.Module]:
        modules = {"network": self.network, "head": self.head}
        return modules if self.averaged is self.network else {**modules, "averaged": self.averaged}

    def seed_process(self) -> None:
        """Seed the random numbers of each process but the first with a seed of its own."""
        if not processes.is_first():
            key = (self._recipe.seed, processes.rank(), self.updates)
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def _rng_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _make_optimizer(
    network: EmbeddingNetwork, head: nn.Module, recipe: OptimizerRecipe
) -> torch.optim.Optimizer:
    """Make the optimizer, its parameters grouped by learning rate and weight decay.

    Biases, norms and single numbers do not decay.
    """
    backbone = set(network.backbone.parameters())
    groups = defaultdict[tuple[str, bool], list[nn.Parameter]](list)
    for parameter in [*network.parameters(), *head.parameters()]:
        groups["backbone" if parameter in backbone else "head", parameter.ndim > 1].append(
            parameter
        )
    described = [
        {"params": p, "part": part, "weight_decay": recipe.weight_decay if decays else 0.0}
        for (part, decays), p in groups.items()
    ]
    if recipe.kind == "radam":
        return torch.optim.RAdam(described, lr=0.0)
    if recipe.kind == "sgd":
        return torch.optim.SGD(described, lr=0.0, momentum=0.9, fused=True)
    kind = torch.optim.AdamW if recipe.kind == "adamw" else torch.optim.Adam
    return kind(described, lr=0.0, fused=True)
