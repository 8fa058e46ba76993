"""The state of a run: its moving average follows the formula, counts included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.recipes import tiny_recipe
from trainer.heads import make_head
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import load_recipe
from trainer.training.state import TrainingState


@pytest.mark.parametrize("ema", [0.15, 0.9])
def test_the_average_follows_its_formula_from_a_low_decay(ema: float, tmp_path: Path) -> None:
    """Step t moves it by 1 - min(ema, (1 + t) / (10 + t)); what is no float is copied."""
    torch.manual_seed(0)
    recipe = load_recipe(tiny_recipe(tmp_path / "tiny.yaml"), [f"ema={ema}"])
    network = EmbeddingNetwork(recipe.network)
    head = make_head(recipe.head, network.dimension, np.array([3, 3]))
    state = TrainingState(network, head, recipe, landmarks=["a", "b"], precision="f32")
    state.freeze_backbone(frozen=False)
    state.set_learning_rates(backbone=1e-3, head=1e-2)
    assert state.averaged is not network
    for t in (1, 2, 3):
        before = {name: x.clone() for name, x in state.averaged.state_dict().items()}
        pictures = torch.randint(256, (4, 32, 32, 3), dtype=torch.uint8)
        state.step(pictures, [torch.tensor([0, 1, 0, 1])], parts=1, seed=0)
        decay = min(ema, (1 + t) / (10 + t))
        after, current = state.averaged.state_dict(), network.state_dict()
        assert len(after) > 100
        for name, average in after.items():
            if average.is_floating_point():
                expected = decay * before[name].double() + (1 - decay) * current[name].double()
                assert torch.allclose(average.double(), expected, rtol=1e-4, atol=1e-6), name
            else:
                assert average.equal(current[name]), name
                assert average == t, name
    assert state.updates == 3
