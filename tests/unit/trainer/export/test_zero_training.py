"""A pretrained network becomes an embedder without training; an embedder can be whitened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray

from embedder.artifacts.arrays import read_npz, unit_rows
from embedder.embedder import Embedder, Prepared
from embedder.errors import ArtifactMissingError, TrainingError
from embedder.manifest import Fit, read_manifest, write_manifest
from photographs import open_data
from tests.factories import photographs, tiny_embedder, view_bytes
from trainer.cli import main
from trainer.model.adapter import learn_whitening
from trainer.recipe import WhitenRecipe

BACKBONE = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write random weights of a small backbone."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    safetensors.torch.save_file(timm.create_model(BACKBONE, num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export that backbone at a small size, with mirrored views."""
    out = tmp_path_factory.mktemp("exported") / "embedder"
    arguments = ["export", "--backbone", BACKBONE, "--weights", str(weights), "--out", str(out)]
    arguments += ["--side", "64", "--fit", "squash", "--mirrored", "--name", "zero"]
    assert main(arguments) == 0
    return out


def embed(directory: Path, pictures: list[Prepared]) -> NDArray[np.float32]:
    """Open an embedder in float32 and embed."""
    embedder = Embedder.load(directory, device="cpu", precision="f32")
    return embedder.embed(pictures)


def prepared(directory: Path) -> list[Prepared]:
    """Prepare four pictures for an embedder."""
    embedder = Embedder.load(directory, device="cpu", precision="f32")
    return [embedder.prepare(view_bytes(landmark, 3)) for landmark in range(4)]


def test_a_pretrained_network_is_an_embedder(exported: Path, weights: Path) -> None:
    """Its vector is timm's pooled features of the picture and its mirror image, to bf16's grid."""
    manifest, _ = read_manifest(exported)
    assert manifest.name == "zero"
    assert manifest.members[0].preprocess.side == 64
    assert manifest.members[0].preprocess.fit is Fit.SQUASH
    assert manifest.provenance["backbone"] == BACKBONE
    assert set(manifest.files) == {
        "model.onnx",
        "model.pt2",
        "golden.npz",
        "recipe.yaml",
        "README.md",
    }
    pictures = prepared(exported)
    network = timm.create_model(BACKBONE, num_classes=0, global_pool="").eval()
    network.load_state_dict(safetensors.torch.load_file(weights))
    inputs = torch.from_numpy(np.stack([picture[0] for picture in pictures]))
    with torch.no_grad():
        rows = [unit_rows(network(x).mean((2, 3)).numpy()) for x in (inputs, inputs.flip(3))]
    expected = unit_rows(rows[0] + rows[1])
    assert np.einsum("nd,nd->n", embed(exported, pictures), expected).min() > 0.999


def test_a_mirrored_picture_has_the_same_vector(exported: Path) -> None:
    """The mean over both views does not know which of them was given."""
    pictures = prepared(exported)
    turned = [(np.ascontiguousarray(picture[0][:, :, ::-1]),) for picture in pictures]
    rows = embed(exported, pictures)
    assert np.abs(rows - embed(exported, turned)).max() < 1e-5
    assert np.abs(rows - embed(exported, pictures[:1])).max() > 1e-3


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run", "--backbone", BACKBONE],
        ["--backbone", BACKBONE, "--ensemble", "e.yaml"],
        ["run", "--side", "64"],
        ["run", "--mirrored"],
    ],
)
def test_runs_and_backbones_are_not_mixed(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Options that would have no effect are refused before anything is done."""
    out = tmp_path / "embedder"
    assert main(["export", *arguments, "--out", str(out)]) == TrainingError.exit_code
    assert "--backbone" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_a_whitened_embedder_is_the_old_one_with_a_layer(exported: Path, tmp_path: Path) -> None:
    """Its vectors are those of the old one, whitened, and it proves itself like any other."""
    data, out = photographs(tmp_path / "data"), tmp_path / "whitened"
    (data / "landmark-0" / "picture-0-0.jpg").write_bytes(b"no picture")
    arguments = ["whiten", str(exported), "--data", str(data), "--out", str(out)]
    assert main([*arguments, "--dimension", "9", "--shrink", "0.4"]) == 0

    old = Embedder.load(exported, device="cpu", precision="f32")
    readable = [p.path.read_bytes() for p in open_data(data).gallery()][1:]
    rows = old.embed([old.prepare(content) for content in readable])
    whitening = learn_whitening(rows, WhitenRecipe(dimension=9, shrink=0.4))
    pictures = prepared(exported)
    expected = unit_rows(whitening(torch.from_numpy(old.embed(pictures))).numpy())
    assert np.abs(np.einsum("nd,nd->n", embed(out, pictures), expected) - 1).max() < 1e-3
    manifest, _ = read_manifest(out)
    assert manifest.dimension == 9
    assert manifest.provenance["whitened"] == {
        "embedder": old.digest,
        "pictures": 29,
        "shrink": 0.4,
    }
    assert (out / "recipe.yaml").read_bytes() == (exported / "recipe.yaml").read_bytes()
    assert len(read_npz(out / "golden.npz")["crops_0"]) == 4


def test_an_embedder_of_several_networks_is_whitened_before_it_is_joined(tmp_path: Path) -> None:
    """A whitening belongs to one network."""
    source = tiny_embedder(tmp_path / "embedder")
    manifest, _ = read_manifest(source)
    two = (manifest.members[0], manifest.members[0].model_copy(update={"name": "other"}))
    write_manifest(source, manifest.model_copy(update={"members": two, "dimension": 16}))
    data = photographs(tmp_path / "data")
    arguments = ["whiten", str(source), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main(arguments) == TrainingError.exit_code


def test_an_embedder_without_a_network_for_torch_is_not_whitened(tmp_path: Path) -> None:
    """The whitening is put behind that network, so it must be there."""
    source = tiny_embedder(tmp_path / "embedder")
    data = photographs(tmp_path / "data")
    arguments = ["whiten", str(source), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main(arguments) == ArtifactMissingError.exit_code
