"""The network is what its recipe says, for pictures of any side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import trainer
from embedder.errors import RecipeError
from tests.recipes import small_network
from trainer.distributed.synchronized_norm import synchronize_norms
from trainer.heads import make_head
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import load_recipe


@pytest.mark.parametrize("after", ["nothing", "swish", "batchnorm", "batchnorm-prelu"])
@pytest.mark.parametrize("pooling", ["gem", "average"])
def test_embeddings_are_unit_rows(after: str, pooling: str) -> None:
    """Every neck and pooling ends in unit vectors of the asked dimension."""
    parts = small_network(neck={"dimension": 16, "after": after}, pooling={"kind": pooling})
    network = EmbeddingNetwork(parts).eval()
    rows = network(torch.randn(3, 3, 64, 64))
    assert rows.shape == (3, 16)
    assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_transformers_of_any_picture_size_give_embeddings(backbone: str) -> None:
    """Tokens and channels-last maps are pooled over their places, not over their channels."""
    network = EmbeddingNetwork(small_network(backbone=backbone)).eval()
    for side in (96, 128):
        assert network(torch.randn(2, 3, side, side)).shape == (2, 16)
    maps = network.features.as_maps(network.backbone(torch.randn(2, 3, 96, 96)))
    assert network.pooling(maps).shape == (2, network.backbone.num_features)


def test_fixing_the_side_changes_no_embedding() -> None:
    """A transformer's table of positions, resized once or in every pass, is the same."""
    network = EmbeddingNetwork(small_network(backbone="vit_tiny_patch16_224")).eval()
    pictures = torch.randn(2, 3, 96, 96)
    before = network(pictures)
    network.fix_input_side(96)
    assert torch.allclose(network(pictures), before, atol=1e-5)


def test_a_network_from_scratch_takes_any_side() -> None:
    """Six convolutions, a grid and a hidden layer give vectors at 800 pixels and at 100."""
    parts = small_network(
        backbone="six_convolutions",
        pooling={"kind": "grid", "cells": 6},
        neck={"kind": "hidden", "hidden": 32, "dimension": 16},
    )
    network = EmbeddingNetwork(parts).eval()
    assert sum(isinstance(m, torch.nn.Conv2d) for m in network.modules()) == 6
    assert sum(isinstance(m, torch.nn.MaxPool2d) for m in network.modules()) == 6
    for side in (800, 100):
        assert network(torch.randn(1, 3, side, side)).shape == (1, 16)


@pytest.mark.parametrize(
    ("name", "dimension", "parameters"),
    [("efficientnet_b7", 2560, 140_616_960), ("resnet50", 1000, 55_587_032)],
)
def test_seed_000_has_its_published_number_of_parameters(
    name: str, dimension: int, parameters: int
) -> None:
    """The recipe's network and head together, with 30,000 landmarks, have the published size."""
    path = Path(trainer.__file__).parent / "recipes" / "seed000" / f"{name}.yaml"
    found = load_recipe(path, ["network.pretrained=none"])
    with torch.device("meta"):
        network = EmbeddingNetwork(found.network)
        head = make_head(found.head, network.dimension, np.full(30_000, 10))
    assert network.dimension == dimension
    everything = [*network.parameters(), *head.parameters()]
    assert sum(p.numel() for p in everything) == parameters


def test_a_frozen_part_that_is_not_there_is_a_fault_of_the_recipe() -> None:
    """The fault names the parts that there are."""
    with pytest.raises(RecipeError, match="no part 'steam'; its parts: conv_stem, bn1, blocks"):
        EmbeddingNetwork(small_network(frozen=("blocks.0", "steam")))


def test_a_frozen_norm_stays_frozen_when_norms_are_synchronized() -> None:
    """The name means the norm that stands there now, not the one that was replaced."""
    network = EmbeddingNetwork(small_network(frozen=("bn1",)))
    synchronize_norms(network, torch.device("cpu"))
    network.set_training_mode(backbone=True)
    norms = dict(network.backbone.named_modules())
    assert not norms["bn1"].training
    assert not norms["bn1"].weight.requires_grad
    assert norms["blocks.0.0.bn1"].training
