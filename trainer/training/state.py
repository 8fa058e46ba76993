"""Everything of a run that changes while it trains, and how it is saved and taken up again."""

from __future__ import annotations

import copy
import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainer.distributed import processes
from trainer.heads.head import Head
from trainer.model import checkpoint
from trainer.model.checkpoint import Progress
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import OptimizerRecipe, Recipe
from trainer.training.step import Learner


class TrainingState:
    """Network, head, optimizer, moving average, progress and history of a run.

    Several processes have it alike, but for their random numbers; the first one saves it.

    Attributes:
        landmarks: Their ids in the order of the head's numbers.
        averaged: Moving average of the network's weights; the network itself if there is none.
        history: One entry per finished epoch.
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
        bf16: bool,
    ) -> None:
        self.network = network
        self.averaged = copy.deepcopy(network) if recipe.ema else network
        self.progress = Progress()
        self.history: list[dict[str, Any]] = []
        self.unreadable: set[str] = set()
        self.updates = 0
        self._recipe = recipe
        self._bf16 = bf16
        self._frozen = False
        self.renew_head(head, landmarks)

    def renew_head(self, head: Head, landmarks: Sequence[str]) -> None:
        """Begin anew with another head, and an optimizer that has seen nothing."""
        self.head = head
        self.landmarks = landmarks
        self.optimizer = _make_optimizer(self.network, head, self._recipe.optimizer)
        self._learner: Learner | None = None

    def freeze(self, *, frozen: bool) -> None:
        """Make ready to learn, the backbone staying as it is if ``frozen``."""
        self.network.set_training_mode(backbone=not frozen)
        if frozen != self._frozen:
            self._frozen, self._learner = frozen, None

    def learner(self) -> Learner:
        """Give what computes the gradients of network and head."""
        if self._learner is None:
            gc.collect()  # the one before would go on averaging gradients, too
            compiled = self._recipe.compile
            self._learner = Learner(self.network, self.head, bf16=self._bf16, compiled=compiled)
        return self._learner

    def set_rates(self, *, backbone: float, head: float) -> None:
        """Set the learning rates of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = backbone if group["part"] == "backbone" else head

    @torch.no_grad()
    def average(self) -> None:
        """Move the averaged weights a step towards the network's.

        The decay starts low, ``(1 + t) / (10 + t)``, so that the random start is soon forgotten.
        """
        self.updates += 1
        if not self._recipe.ema:
            return
        decay = min(self._recipe.ema, (1 + self.updates) / (10 + self.updates))
        current = self.network.state_dict()
        for name, tensor in self.averaged.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(current[name], 1 - decay)
            else:
                tensor.copy_(current[name])

    def is_finite(self) -> bool:
        """Tell whether every number of it is finite: nothing else is worth saving."""
        tensors = list(checkpoint.optimizer_tensors(self.optimizer).values())
        for module in (self.network, self.head, self.averaged):
            tensors += module.parameters()
            tensors += [t for name, t in module.named_buffers() if "running_" in name]
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def save(self, path: Path, recipe_digest: str) -> None:
        """Write all of it to ``path``, atomically; every process has to call this."""
        chances = processes.gather(_rng_state())
        if not processes.is_first():
            return
        parts = {
            "network": self.network.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": checkpoint.optimizer_tensors(self.optimizer),
            **{f"rng.{number}": chance for number, chance in enumerate(chances)},
        }
        if self.averaged is not self.network:
            parts["averaged"] = self.averaged.state_dict()
        tensors = {
            f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()
        }
        facts = {
            "recipe": recipe_digest,
            "landmarks": list(self.landmarks),
            "progress": checkpoint.progress_facts(self.progress),
            "updates": self.updates,
            "history": self.history,
            "unreadable": sorted(self.unreadable),
        }
        checkpoint.save(path, tensors, facts)

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up what :meth:`save` wrote, with the head of the same stage.

        Other processes than those that wrote it go on with random numbers of their own.
        """
        self.network.load_state_dict(checkpoint.part(tensors, "network"))
        self.head.load_state_dict(checkpoint.part(tensors, "head"))
        checkpoint.restore_optimizer(self.optimizer, checkpoint.part(tensors, "optimizer"))
        if self.averaged is not self.network:
            self.averaged.load_state_dict(checkpoint.part(tensors, "averaged"))
        self.progress = Progress(**facts["progress"])
        self.updates = facts["updates"]
        self.history = facts["history"]
        self.unreadable = set(facts["unreadable"])
        chance = checkpoint.part(tensors, f"rng.{processes.rank()}")
        if not chance:
            self.draw_apart()
            return
        torch.set_rng_state(chance["cpu"])
        if "cuda" in chance and torch.cuda.is_available():
            torch.cuda.set_rng_state(chance["cuda"])

    def draw_apart(self) -> None:
        """Let each process but the first draw random numbers of its own from now on."""
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
    """Group parameters by learning rate and by whether they decay.

    Biases, norms and single numbers do not decay.
    """
    backbone = set(network.backbone.parameters())
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter in [*network.parameters(), *head.parameters()]:
        part = "backbone" if parameter in backbone else "head"
        groups.setdefault((part, parameter.ndim > 1), []).append(parameter)
    described = [
        {"params": p, "part": part, "weight_decay": recipe.weight_decay if decays else 0.0}
        for (part, decays), p in groups.items()
    ]
    if recipe.kind == "radam":
        return torch.optim.RAdam(described, lr=0.0)
    kind = torch.optim.AdamW if recipe.kind == "adamw" else torch.optim.Adam
    return kind(described, lr=0.0, fused=True)
