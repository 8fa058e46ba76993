"""Pretrained weights load whole or not at all; what timm lacks is a fault of the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from embedder.errors import ArtifactDamagedError, ArtifactMissingError, RecipeError
from embedder.manifest import Fit, Interpolation, Preprocess
from tests.recipes import SMALL_BACKBONE, small_network
from trainer.model.backbone import pretrained_preprocess
from trainer.model.network import EmbeddingNetwork


def test_missing_pretrained_weights_are_a_fault() -> None:
    """There are none of ResNet152V2: asked for, that is said; preferred, it goes on without."""
    with pytest.raises(RecipeError, match=r"network\.pretrained.*no pretrained weights of resnetv"):
        EmbeddingNetwork(small_network(backbone="resnetv2_152", pretrained="required"))
    with pytest.raises(RecipeError, match="no pretrained weights of six_convolutions"):
        EmbeddingNetwork(small_network(backbone="six_convolutions", pretrained="required"))


def test_a_backbone_without_a_classifier_cannot_keep_it() -> None:
    """The fault names the place."""
    with pytest.raises(RecipeError, match=r"network\.neck.*six_convolutions"):
        EmbeddingNetwork(small_network(backbone="six_convolutions", neck={"kind": "classifier"}))


def test_a_file_of_weights_is_used(tmp_path: Path) -> None:
    """The backbone carries the weights of the file; a classifier in it is left out."""
    torch.manual_seed(5)
    source = timm.create_model(SMALL_BACKBONE, num_classes=10)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(source.state_dict(), path)
    network = EmbeddingNetwork(small_network(), weights=path)
    assert torch.equal(network.backbone.conv_stem.weight, source.conv_stem.weight)


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    """Weights of another backbone, garbage and a missing file are refused by name."""
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"conv_stem.weight": torch.zeros(1)}, path)
    with pytest.raises(ArtifactDamagedError, match=r"weights\.safetensors.*lacks"):
        EmbeddingNetwork(small_network(), weights=path)
    path.write_bytes(b"garbage")
    with pytest.raises(ArtifactDamagedError, match="not a safetensors"):
        EmbeddingNetwork(small_network(), weights=path)
    with pytest.raises(ArtifactMissingError):
        EmbeddingNetwork(small_network(), weights=tmp_path / "none")


def test_an_unknown_backbone_is_a_fault_of_the_recipe() -> None:
    """The fault names the place and the value."""
    with pytest.raises(RecipeError, match=r"network\.backbone.*nosuchnet"):
        EmbeddingNetwork(small_network(backbone="nosuchnet"))


def test_pictures_are_prepared_as_in_pretraining() -> None:
    """Size, crop, filter, mean and std are timm's; another side can be asked for."""
    assert pretrained_preprocess("inception_v3") == Preprocess(
        side=299,
        fit=Fit.CENTER_CROP,
        crop=0.875,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        color_profiles=True,
    )
    other = pretrained_preprocess("tf_efficientnet_b3.ns_jft_in1k", 96)
    assert (other.side, other.interpolation) == (96, Interpolation.BICUBIC)
    for unknown in ("no_such_model", "resnet50.no_such_weights"):
        with pytest.raises(RecipeError, match="timm knows no pretrained"):
            pretrained_preprocess(unknown)
