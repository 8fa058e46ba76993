"""An embedder is adapted to labeled photographs, where that answers others better."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray
from PIL import Image

from embedder.artifacts.arrays import read_npz
from embedder.embedder import Embedder
from embedder.errors import ArtifactMissingError, TrainingError
from embedder.manifest import read_manifest
from tests.factories import photographs, picture, tiny_embedder
from trainer.cli import main
from trainer.training.adapter_selection import UNCHANGED

LANDMARKS, VIEWS = 8, 8


def tinted(landmark: int, view: int) -> bytes:
    """Draw a faint pattern of a landmark in light that changes its color far more."""
    rng = np.random.default_rng((landmark, view))
    light = rng.integers(0, 200, (1, 1, 3))
    pattern = np.asarray(picture(landmark)).astype(np.float64) / 5
    pixels = (light + pattern + rng.normal(0, 3, pattern.shape)).clip(0, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw such photographs; one of them cannot be read."""
    folder = tmp_path_factory.mktemp("data")
    for landmark in range(LANDMARKS):
        (folder / f"landmark-{landmark}").mkdir()
        for view in range(VIEWS):
            file = folder / f"landmark-{landmark}" / f"{landmark}-{view}.jpg"
            file.write_bytes(tinted(landmark, view))
    (folder / "landmark-0" / "0-0.jpg").write_bytes(b"no picture")
    return folder


def export_untrained(folder: Path, backbone: str, *options: str) -> Path:
    """Export a backbone of random weights as an embedder, and return its folder."""
    torch.manual_seed(5)
    weights = folder / "weights.safetensors"
    state = timm.create_model(backbone, num_classes=0, pretrained=False).state_dict()
    safetensors.torch.save_file(state, weights)
    out = folder / "frozen"
    arguments = ["export", "--backbone", backbone, "--weights", str(weights), "--out", str(out)]
    assert main([*arguments, *options]) == 0
    return out


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export a small network of random weights."""
    return export_untrained(
        tmp_path_factory.mktemp("frozen"), "mobilenetv3_small_050", "--side", "64"
    )


def embed(folder: Path, files: list[bytes]) -> NDArray[np.float32]:
    """Open an embedder in float32 and embed."""
    embedder = Embedder.load(folder, device="cpu", precision="f32")
    return embedder.embed([embedder.prepare(file) for file in files])


def gap_between_landmarks(rows: NDArray[np.float32]) -> float:
    """Return by how much views of one landmark are nearer to each other than to other views."""
    labels = np.repeat(np.arange(len(rows) // 4), 4)
    cosines, same = rows @ rows.T, labels[:, None] == labels
    return float(cosines[same].mean() - cosines[~same].mean()) / float(cosines[~same].std())


@pytest.mark.slow
def test_an_adapted_embedder_tells_new_landmarks_apart_better(
    frozen: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the old one with a layer, says what it learned from, and proves itself like any."""
    out = tmp_path / "adapted"
    assert main(["adapt", str(frozen), "--data", str(data), "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    manifest, digest = read_manifest(out)
    old, old_digest = read_manifest(frozen)
    assert printed.pop("embedder") == str(out)
    assert printed.pop("digest") == digest
    assert manifest.provenance == {**old.provenance, "adapted": {"embedder": old_digest, **printed}}
    assert printed["pictures"] == LANDMARKS * VIEWS - 1
    assert printed["landmarks"] == LANDMARKS
    assert printed["dimension"] == manifest.dimension <= old.dimension
    metrics = printed["validation"]
    chosen, before = metrics[printed["adapter"]], metrics[UNCHANGED]
    assert chosen["gap"] > before["gap"]
    assert chosen["left_out_top1"] >= before["left_out_top1"]

    files = [tinted(landmark, view) for landmark in range(20, 32) for view in range(4)]
    rows, adapted = embed(frozen, files), embed(out, files)
    assert gap_between_landmarks(adapted) > 1.2 * gap_between_landmarks(rows)
    assert len(read_npz(out / "golden.npz")["crops_0"]) == 4
    assert (out / "recipe.yaml").read_bytes() == (frozen / "recipe.yaml").read_bytes()


@pytest.mark.slow
def test_where_nothing_helps_nothing_is_written(
    frozen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Photographs that are all named rightly leave nothing to learn; the figures say so."""
    data, out = photographs(tmp_path / "data", landmarks=8), tmp_path / "adapted"
    arguments = ["adapt", str(frozen), "--data", str(data), "--out", str(out)]
    assert main(arguments) == TrainingError.exit_code
    assert "no adapter improves the embedder" in capsys.readouterr().err
    assert not out.exists()


def test_an_embedder_without_a_network_for_torch_is_not_adapted(tmp_path: Path) -> None:
    """The layer is put behind that network, so it must be there."""
    source, data = tiny_embedder(tmp_path / "embedder"), photographs(tmp_path / "data")
    arguments = ["adapt", str(source), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main(arguments) == ArtifactMissingError.exit_code


def test_a_folder_of_other_files_is_refused_before_anything_is_computed(
    frozen: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Minutes of embedding do not end in a refusal."""
    (tmp_path / "file").write_text("precious")
    arguments = ["adapt", str(frozen), "--data", str(data), "--out", str(tmp_path)]
    assert main(arguments) == TrainingError.exit_code
    told = capsys.readouterr().err
    assert "holds other files" in told
    assert "picture/s" not in told


@pytest.mark.full
def test_a_transformer_is_adapted(data: Path, tmp_path: Path) -> None:
    """DINOv2-S with its class token and registers, here with random weights."""
    source = export_untrained(
        tmp_path, "vit_small_patch14_reg4_dinov2.lvd142m", "--side", "28", "--pooling", "token"
    )
    out = tmp_path / "adapted"
    assert main(["adapt", str(source), "--data", str(data), "--out", str(out)]) == 0
    files = [tinted(landmark, view) for landmark in range(20, 32) for view in range(4)]
    rows, adapted = embed(source, files), embed(out, files)
    assert rows.shape[1] == 384
    assert gap_between_landmarks(adapted) > 1.2 * gap_between_landmarks(rows)
