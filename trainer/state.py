"""Everything of a run that changes while it trains, and how it is saved and taken up again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from embedder.errors import TrainingError
from trainer import checkpoint
from trainer.checkpoint import Progress
from trainer.network import EmbeddingNetwork
from trainer.recipe import OptimizerRecipe


class TrainingState:
    """Network, head, optimizer, moving average, progress and history of a run.

    Attributes:
        averaged: Moving average of the network's weights; the network itself if there is none.
        history: One entry per finished epoch.
        unreadable: Ids of training pictures that could not be read.
    """

    def __init__(
        self, network: EmbeddingNetwork, head: nn.Module, recipe: OptimizerRecipe, *, ema: float
    ) -> None:
        self.network = network
        self.head = head
        self.optimizer = _make_optimizer(network, head, recipe)
        self.averaged = copy.deepcopy(network) if ema else network
        self.progress = Progress()
        self.history: list[dict[str, Any]] = []
        self.unreadable: set[str] = set()
        self._ema = ema
        self._updates = 0

    def set_rates(self, *, backbone: float, head: float) -> None:
        """Set the learning rates of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = backbone if group["part"] == "backbone" else head

    @torch.no_grad()
    def average(self) -> None:
        """Move the averaged weights a step towards the network's.

        The decay starts low, ``(1 + t) / (10 + t)``, so that the random start is soon forgotten.
        """
        self._updates += 1
        if not self._ema:
            return
        decay = min(self._ema, (1 + self._updates) / (10 + self._updates))
        current = self.network.state_dict()
        for name, tensor in self.averaged.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(current[name], 1 - decay)
            else:
                tensor.copy_(current[name])

    def save(self, path: Path, recipe_digest: str) -> None:
        """Write all of it to ``path``, atomically."""
        parts = {
            "network": self.network.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": checkpoint.optimizer_tensors(self.optimizer),
            "rng": _rng_state(),
        }
        if self._ema:
            parts["averaged"] = self.averaged.state_dict()
        tensors = {
            f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()
        }
        facts = {
            "recipe": recipe_digest,
            "progress": checkpoint.progress_facts(self.progress),
            "updates": self._updates,
            "history": self.history,
            "unreadable": sorted(self.unreadable),
        }
        checkpoint.save(path, tensors, facts)

    def restore(self, path: Path, recipe_digest: str) -> None:
        """Take up what :meth:`save` wrote.

        Raises:
            ArtifactMissingError: There is no checkpoint.
            ArtifactDamagedError: It cannot be read.
            TrainingError: It is of another recipe.
        """
        tensors, facts = checkpoint.load(path)
        if facts["recipe"] != recipe_digest:
            raise TrainingError(
                f"{path} was written with another recipe, pictures or weights; "
                "go on with the same ones or choose another folder"
            )
        self.network.load_state_dict(checkpoint.part(tensors, "network"))
        self.head.load_state_dict(checkpoint.part(tensors, "head"))
        checkpoint.restore_optimizer(self.optimizer, checkpoint.part(tensors, "optimizer"))
        if self._ema:
            self.averaged.load_state_dict(checkpoint.part(tensors, "averaged"))
        torch.set_rng_state(tensors["rng.cpu"])
        if "rng.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["rng.cuda"])
        self.progress = Progress(**facts["progress"])
        self._updates = facts["updates"]
        self.history = facts["history"]
        self.unreadable = set(facts["unreadable"])


def _rng_state() -> dict[str, torch.Tensor]:
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
