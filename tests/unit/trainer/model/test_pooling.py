"""Pooling is the published formula and stays finite."""

from __future__ import annotations

import pytest
import torch

from embedder.errors import RecipeError
from tests.recipes import small_network
from trainer.model.network import EmbeddingNetwork, GeM


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


def test_gem_may_pool_with_another_exponent_once_trained() -> None:
    """test_p counts in evaluation only."""
    features = torch.rand(2, 4, 5, 5) + 0.1
    pooling = GeM(3.0, trained=True, test_p=6.0)
    assert torch.equal(pooling(features), GeM(3.0, trained=True)(features))
    assert torch.equal(pooling.eval()(features), GeM(6.0, trained=True)(features))


def test_a_class_token_is_the_first_of_a_transformers_tokens() -> None:
    """It is pooled as timm gives it; a network without one refuses."""
    parts = small_network(
        backbone="vit_tiny_patch16_224", pooling={"kind": "token"}, neck={"kind": "none"}
    )
    network = EmbeddingNetwork(parts).eval()
    pictures = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(network.backbone(pictures)[:, 0])
        assert torch.allclose(network(pictures), expected, atol=1e-6)
    with pytest.raises(RecipeError, match="no class token"):
        EmbeddingNetwork(small_network(pooling={"kind": "token"}))
