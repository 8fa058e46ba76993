"""Pooling stays finite, weights load whole or not at all, parts are what the recipe says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

import trainer
from embedder.errors import ArtifactDamagedError, ArtifactMissingError, RecipeError
from trainer.distributed.synchronized_norm import synchronize_norms
from trainer.heads import make_head
from trainer.model.network import EmbeddingNetwork
from trainer.model.pooling import GeM
from trainer.recipe import NetworkRecipe, load_recipe

BACKBONE = "mobilenetv3_small_050"


def recipe(**changes: object) -> NetworkRecipe:
    """Describe a small network."""
    content = {
        "backbone": BACKBONE,
        "pretrained": "none",
        "pooling": {"kind": "gem"},
        "neck": {"dimension": 16},
    }
    return NetworkRecipe.model_validate({**content, **changes})


def test_gem_is_the_formula_for_positive_features() -> None:
    """(mean x^p)^(1/p) over the positions."""
    features = torch.rand(2, 4, 5, 5, dtype=torch.float64).float() + 0.1
    expected = features.double().pow(3).mean((2, 3)).pow(1 / 3)
    assert GeM(3.0, trained=True)(features).double().sub(expected).abs().max() < 1e-5


@pytest.mark.parametrize("value", [-5.0, 0.0, 1e-20, 6e10, 3e38, -3e38])
def test_gem_is_finite_for_any_features(value: float) -> None:
    """Negative, zero and huge features give finite values and gradients, of p too."""
    features = torch.full((1, 2, 3, 3), value).requires_grad_()
    pooling = GeM(3.0, trained=True)
    pooled = pooling(features)
    pooled.sum().backward()
    assert torch.isfinite(pooled).all()
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(pooling.p.grad)


def test_a_fixed_exponent_does_not_learn() -> None:
    """trained=false takes p out of the gradient."""
    assert not GeM(4.0, trained=False).p.requires_grad


@pytest.mark.parametrize("after", ["nothing", "swish", "batchnorm", "batchnorm-prelu"])
@pytest.mark.parametrize("pooling", ["gem", "average"])
def test_embeddings_are_unit_rows(after: str, pooling: str) -> None:
    """Every neck and pooling ends in unit vectors of the asked dimension."""
    parts = recipe(neck={"dimension": 16, "after": after}, pooling={"kind": pooling})
    network = EmbeddingNetwork(parts).eval()
    rows = network(torch.randn(3, 3, 64, 64))
    assert rows.shape == (3, 16)
    assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-5)


def test_gem_may_pool_with_another_exponent_once_trained() -> None:
    """test_p counts in evaluation only."""
    features = torch.rand(2, 4, 5, 5) + 0.1
    pooling = GeM(3.0, trained=True, test_p=6.0)
    assert torch.equal(pooling(features), GeM(3.0, trained=True)(features))
    assert torch.equal(pooling.eval()(features), GeM(6.0, trained=True)(features))


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_transformers_of_any_picture_size_give_embeddings(backbone: str) -> None:
    """Tokens and channels-last maps are pooled over their places, not over their channels."""
    network = EmbeddingNetwork(recipe(backbone=backbone)).eval()
    for side in (96, 128):
        assert network(torch.randn(2, 3, side, side)).shape == (2, 16)
    pooled = network.pooling(network._as_maps(network.backbone(torch.randn(2, 3, 96, 96))))
    assert pooled.shape == (2, network.backbone.num_features)


def test_fixing_the_side_changes_no_embedding() -> None:
    """A transformer's table of positions, resized once or in every pass, is the same."""
    network = EmbeddingNetwork(recipe(backbone="vit_tiny_patch16_224")).eval()
    pictures = torch.randn(2, 3, 96, 96)
    before = network(pictures)
    network.fix_input_side(96)
    assert torch.allclose(network(pictures), before, atol=1e-5)


def test_a_network_from_scratch_takes_any_side() -> None:
    """Six convolutions, a grid and a hidden layer give vectors at 800 pixels and at 100."""
    parts = recipe(
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


def test_missing_pretrained_weights_are_a_fault() -> None:
    """There are none of ResNet152V2: asked for, that is said; preferred, it goes on without."""
    with pytest.raises(RecipeError, match=r"network\.pretrained.*no pretrained weights of resnetv"):
        EmbeddingNetwork(recipe(backbone="resnetv2_152", pretrained="required"))
    with pytest.raises(RecipeError, match="no pretrained weights of six_convolutions"):
        EmbeddingNetwork(recipe(backbone="six_convolutions", pretrained="required"))


def test_a_backbone_without_a_classifier_cannot_keep_it() -> None:
    """The fault names the place."""
    with pytest.raises(RecipeError, match=r"network\.neck.*six_convolutions"):
        EmbeddingNetwork(recipe(backbone="six_convolutions", neck={"kind": "classifier"}))


def test_a_file_of_weights_is_used(tmp_path: Path) -> None:
    """The backbone carries the weights of the file; a classifier in it is left out."""
    torch.manual_seed(5)
    source = timm.create_model(BACKBONE, num_classes=10)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(source.state_dict(), path)
    network = EmbeddingNetwork(recipe(), weights=path)
    assert torch.equal(network.backbone.conv_stem.weight, source.conv_stem.weight)


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    """Weights of another backbone, garbage and a missing file are refused by name."""
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"conv_stem.weight": torch.zeros(1)}, path)
    with pytest.raises(ArtifactDamagedError, match=r"weights\.safetensors.*lacks"):
        EmbeddingNetwork(recipe(), weights=path)
    path.write_bytes(b"garbage")
    with pytest.raises(ArtifactDamagedError, match="not a safetensors"):
        EmbeddingNetwork(recipe(), weights=path)
    with pytest.raises(ArtifactMissingError):
        EmbeddingNetwork(recipe(), weights=tmp_path / "none")


def test_a_frozen_part_that_is_not_there_is_a_fault_of_the_recipe() -> None:
    """The fault names the parts that there are."""
    with pytest.raises(RecipeError, match="no part 'steam'; its parts: conv_stem, bn1, blocks"):
        EmbeddingNetwork(recipe(frozen=("blocks.0", "steam")))


def test_a_frozen_norm_stays_frozen_when_norms_are_synchronized() -> None:
    """The name means the norm that stands there now, not the one that was replaced."""
    network = EmbeddingNetwork(recipe(frozen=("bn1",)))
    synchronize_norms(network, torch.device("cpu"))
    network.set_training_mode(backbone=True)
    norms = dict(network.backbone.named_modules())
    assert not norms["bn1"].training
    assert not norms["bn1"].weight.requires_grad
    assert norms["blocks.0.0.bn1"].training


def test_an_unknown_backbone_is_a_fault_of_the_recipe() -> None:
    """The fault names the place and the value."""
    with pytest.raises(RecipeError, match=r"network\.backbone.*nosuchnet"):
        EmbeddingNetwork(recipe(backbone="nosuchnet"))


def test_a_class_token_is_the_first_of_a_transformers_tokens() -> None:
    """It is pooled as timm gives it; a network without one refuses."""
    parts = recipe(
        backbone="vit_tiny_patch16_224", pooling={"kind": "token"}, neck={"kind": "none"}
    )
    network = EmbeddingNetwork(parts).eval()
    pictures = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(network.backbone(pictures)[:, 0])
        assert torch.allclose(network(pictures), expected, atol=1e-6)
    with pytest.raises(RecipeError, match="no class token"):
        EmbeddingNetwork(recipe(pooling={"kind": "token"}))
