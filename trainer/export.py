"""From a finished run to an embedder artifact, proved equal to the network that was trained."""

from __future__ import annotations

import io
import json
import logging
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import Dim

from embedder.arrays import read_npz, write_npz
from embedder.digest import record, sync_tree
from embedder.embedder import GOLDEN_COSINE, Embedder
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactError,
    ArtifactMismatchError,
    ArtifactMissingError,
    TrainingError,
)
from embedder.manifest import EmbedderManifest, Member, Preprocess, read_manifest, write_manifest
from embedder.preprocess import PictureLimits, decode, to_array
from embedder.runtimes.torch_export import TorchExportRuntime
from trainer import checkpoint
from trainer.data.drawn import draw_landmark, draw_scene
from trainer.network import EmbeddingNetwork
from trainer.recipe import Recipe, load_recipe

_log = logging.getLogger(__name__)

DRAWN_SEED = 2020


def export(run: Path, out: Path) -> str:
    """Write the best network of a run as an embedder.

    Args:
        run: Folder of the run.
        out: Folder of the embedder; new, or an embedder to replace.

    Returns:
        The embedder's digest.

    Raises:
        ArtifactMissingError: The run has no best network yet.
        ArtifactDamagedError: Its files cannot be read, or the exported network does not agree
            with the trained one.
        TrainingError: The network gives vectors that are not finite, or ``out`` is in the way.
    """
    recipe = load_recipe(_existing(run / "recipe.yaml"))
    tensors, facts = checkpoint.load(_existing(run / "best.safetensors"))
    plain = recipe.network.model_copy(update={"pretrained": "none"})
    network = EmbeddingNetwork(plain)
    try:
        network.load_state_dict(checkpoint.part(tensors, "network"))
    except RuntimeError as error:
        raise ArtifactMismatchError(
            f"network of {run}", expected="that of its recipe.yaml", found="another one"
        ) from error
    crops = read_npz(_existing(run / "crops.npz"))["crops"]
    _refuse_other_files(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        made = Path(temporary) / "embedder"
        made.mkdir()
        shutil.copy(run / "recipe.yaml", made)
        _copy_report(run / "report.json", made)
        digest = _write(made, network.eval(), recipe, crops, {"run": facts["recipe"]})
        if out.exists():
            out.replace(Path(temporary) / "old")
        made.replace(out)
    return digest


def _refuse_other_files(out: Path) -> None:
    """Let only an embedder be replaced, or an empty folder."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        read_manifest(out)
    except ArtifactError as error:
        raise TrainingError(
            f"{out} holds other files; choose a new folder for the embedder"
        ) from error


def _copy_report(report: Path, made: Path) -> None:
    """Copy a run's report without its times: equal trainings export equal embedders."""
    if not report.is_file():
        return
    facts = json.loads(report.read_text())
    for part in (facts, *facts["epochs"]):
        part.pop("seconds", None)
    (made / "report.json").write_text(json.dumps(facts, indent=2) + "\n")


def _write(
    made: Path,
    network: EmbeddingNetwork,
    recipe: Recipe,
    crops: NDArray[np.float16],
    provenance: dict[str, str],
) -> str:
    write_golden(made / "golden.npz", network, recipe.embed, crops)
    write_onnx(made / "model.onnx", network, recipe.embed.side)
    write_exported(made / "model.pt2", network, recipe.embed.side)
    member = Member(
        name=recipe.name,
        onnx="model.onnx",
        exported="model.pt2",
        dimension=recipe.network.neck.dimension,
        preprocess=recipe.embed,
    )
    digest = write_manifest(
        made,
        EmbedderManifest(
            name=recipe.name,
            dimension=member.dimension,
            members=(member,),
            provenance={**provenance, "torch": torch.__version__},
            files={path.name: record(path) for path in sorted(made.iterdir())},
        ),
    )
    sync_tree(made)
    _prove(made)
    return digest


def write_golden(
    path: Path, network: nn.Module, preprocess: Preprocess, crops: NDArray[np.float16]
) -> None:
    """Write what the network gives, in float32, for drawn pictures and for crops.

    Raises:
        TrainingError: A vector is not finite.
    """
    pictures = [_jpeg(number) for number in range(4)]
    images = [decode(p, limits=PictureLimits(), targets=[preprocess]) for p in pictures]
    inputs = [to_array(image, preprocess) for image in images]
    vectors = _run(network, np.stack(inputs))
    crop_vectors = _run(network, crops.astype(np.float32)) if len(crops) else vectors[:0]
    if not (np.isfinite(vectors).all() and np.isfinite(crop_vectors).all()):
        raise TrainingError("the network gives vectors that are not finite; it is not exported")
    named = {f"picture_{i}": np.frombuffer(data, np.uint8) for i, data in enumerate(pictures)}
    write_npz(path, vectors=vectors, crops_0=crops, crop_vectors_0=crop_vectors, **named)


def write_onnx(path: Path, network: nn.Module, side: int) -> None:
    """Write the network as one ONNX file with a free batch size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter talks of its own deprecations
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, side, side),),
            dynamo=True,
            input_names=["pictures"],
            output_names=["vectors"],
            dynamic_shapes=({0: Dim("n")},),
            verbose=False,
        )
        if program is None:
            raise TrainingError("torch exported nothing")
        program.save(path, external_data=False)


def write_exported(path: Path, network: nn.Module, side: int) -> None:
    """Write the network as a ``torch.export`` archive without example inputs.

    Those would be pickled, and pickled members are refused by whoever loads the archive.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            network, (torch.zeros(2, 3, side, side),), dynamic_shapes=({0: Dim("n")},)
        )
        program.example_inputs = None
        torch.export.save(program, path)


@torch.no_grad()
def _run(network: nn.Module, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = network(torch.from_numpy(inputs)).numpy()
    return vectors


def _jpeg(number: int) -> bytes:
    """Draw a golden picture: two landmarks, two scenes."""
    landmark = number < 2
    image = draw_landmark(DRAWN_SEED, number, 0) if landmark else draw_scene(DRAWN_SEED, number)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _prove(made: Path) -> None:
    """Run both networks of the artifact, in float32, and compare with torch's vectors.

    Raises:
        ArtifactDamagedError: One of them does not agree.
    """
    embedder = Embedder.load(made, device="cpu", precision="f32")
    _log.info("OpenVINO: golden vectors agree to %.7f in f32", embedder.golden_cosine(made))
    runtimes = [
        TorchExportRuntime(made / member.exported, precision="f32", device="cpu")
        for member in embedder.manifest.members
        if member.exported
    ]
    exported = Embedder(
        embedder.manifest,
        embedder.digest,
        runtimes,
        device="cpu",
        precision="f32",
        limits=PictureLimits(),
    )
    agreed = exported.golden_cosine(made)
    _log.info("torch.export: golden vectors agree to %.7f in f32", agreed)
    if agreed < GOLDEN_COSINE["f32"]:
        raise ArtifactDamagedError(
            made / "model.pt2", f"its vectors agree with torch's only to a cosine of {agreed:.6f}"
        )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ArtifactMissingError(path)
    return path
