"""Pooling stays finite, weights load whole or not at all, parts are what the recipe says."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from embedder.errors import ArtifactDamagedError, ArtifactMissingError, RecipeError
from trainer.network import EmbeddingNetwork, GeM
from trainer.recipe import NetworkRecipe

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


def test_an_unknown_backbone_is_a_fault_of_the_recipe() -> None:
    """The fault names the place and the value."""
    with pytest.raises(RecipeError, match=r"network\.backbone.*nosuchnet"):
        EmbeddingNetwork(recipe(backbone="nosuchnet"))
