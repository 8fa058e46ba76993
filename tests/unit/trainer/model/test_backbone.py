"""Pretrained weights load whole or not at all; what timm lacks is a fault of the recipe."""

from __future__ import annotations

import math
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
    with pytest.raises(ArtifactDamagedError, match="no file of safetensors or torch"):
        EmbeddingNetwork(small_network(), weights=path)
    with pytest.raises(ArtifactMissingError):
        EmbeddingNetwork(small_network(), weights=tmp_path / "none")


@pytest.mark.parametrize("backbone", ["nosuchnet", "resnet18.nosuchtag"])
def test_an_unknown_backbone_is_a_fault_of_the_recipe(backbone: str) -> None:
    """The fault names the place and the value, of known networks with unknown weights too."""
    with pytest.raises(RecipeError, match=rf"network\.backbone.*{backbone}"):
        EmbeddingNetwork(small_network(backbone=backbone))


@pytest.mark.parametrize(
    ("backbone", "side", "reason"),
    [
        ("vit_tiny_patch16_224", 100, "takes no pictures of 100 pixels; of 96 it does"),
        (
            "vit_small_patch14_reg4_dinov2",
            224 + 4,
            "takes no pictures of 228 pixels; of 224 it does",
        ),
        ("halonet26t", 96, "takes no pictures of 96 pixels; of 256 it does"),
        ("lambda_resnet26t", 96, "lambda_resnet26t has convolutions of three dimensions"),
        ("efficientvim_m1", 64, "efficientvim_m1 gives neither feature maps nor tokens"),
    ],
)
def test_pictures_that_a_backbone_does_not_take_are_refused_before_any_weight_is_made(
    backbone: str, side: int, reason: str
) -> None:
    """In a sentence that names a side which it takes, and even where weights are missing."""
    with pytest.raises(RecipeError, match=reason) as refused:
        EmbeddingNetwork(small_network(backbone=backbone, pretrained="required"), sides=[side])
    assert [fault.path for fault in refused.value.faults] == ["network.backbone"]


@pytest.mark.parametrize(
    ("backbone", "sides"),
    [
        ("levit_128s", (96,)),  # made for this one side
        ("levit_128s", ()),  # for that of the pretraining
        ("xcit_nano_12_p8_224", (64, 96)),
        ("vit_tiny_patch16_224", (64, 96)),
        ("coat_lite_tiny", (64,)),  # without its head, which always pools
        ("efficientvit_b0", (64, 96)),
        ("deit_tiny_distilled_patch16_224", (64, 96)),
    ],
)
def test_backbones_give_embeddings_of_every_side_of_the_recipe(
    backbone: str, sides: tuple[int, ...]
) -> None:
    """Whatever it takes to make them by timm; in training as in evaluation."""
    network = EmbeddingNetwork(small_network(backbone=backbone), sides=sides)
    for side in sides or (224,):
        pictures = torch.randn(2, 3, side, side)
        features = network.features.compute(network.backbone, pictures)
        maps = network.features.as_maps(features)
        assert maps.shape[:2] == (2, network.features.channels)
        assert math.isqrt(positions := maps[0, 0].numel()) ** 2 == positions
        assert network(pictures).shape == (2, 16)
        assert network.eval()(pictures).shape == (2, 16)


def test_a_backbone_made_for_one_side_is_refused_for_several() -> None:
    """All of them are named."""
    message = "levit_128s takes no pictures of 96 pixels.*; the recipe asks for 96, 128"
    with pytest.raises(RecipeError, match=message):
        EmbeddingNetwork(small_network(backbone="levit_128s"), sides=[128, 96, 128])


def test_weights_follow_a_backbone_to_another_side(tmp_path: Path) -> None:
    """By timm, which resizes what depends on the side; where it cannot, that is said."""
    torch.manual_seed(5)
    for name in ("test_vit_relpos", "levit_128s"):
        state = timm.create_model(name, num_classes=0).state_dict()
        torch.save(state, tmp_path / f"{name}.pth")
    parts = small_network(backbone="test_vit_relpos")
    network = EmbeddingNetwork(parts, weights=tmp_path / "test_vit_relpos.pth", sides=[96])
    given, found = torch.load(tmp_path / "test_vit_relpos.pth"), network.backbone.state_dict()
    assert len(found) > 100
    assert all(torch.equal(tensor, given[name]) for name, tensor in found.items())
    assert network(torch.randn(2, 3, 96, 96)).shape == (2, 16)
    parts = small_network(backbone="levit_128s")
    with pytest.raises(RecipeError, match="cannot be resized to pictures of 96 pixels; they are"):
        EmbeddingNetwork(parts, weights=tmp_path / "levit_128s.pth", sides=[96])


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
