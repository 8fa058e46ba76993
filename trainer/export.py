"""From a finished run to an embedder artifact, proved equal to the network that was trained."""

from __future__ import annotations

import io
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import nn
from torch.export import Dim, ExportedProgram

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
from embedder.manifest import GOLDEN, EmbedderManifest, Member, read_manifest, write_manifest
from embedder.preprocess import PictureLimits, decode, to_array
from embedder.runtimes.torch_export import TorchExportRuntime
from trainer import checkpoint
from trainer.data.drawn import draw_landmark, draw_scene
from trainer.network import EmbeddingNetwork
from trainer.recipe import Recipe, load_recipe

_log = logging.getLogger(__name__)

DRAWN_SEED = 2020


@dataclass(frozen=True)
class _Trained:
    """The best network of a run.

    Attributes:
        folder: The run's.
        recipe: The run's.
        network: In evaluation mode.
        crops: ``(m, 3, side, side)`` normalized crops of training pictures.
        digest: Of everything that decided the run's outcome.
    """

    folder: Path
    recipe: Recipe
    network: EmbeddingNetwork
    crops: NDArray[np.float16]
    digest: str


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
    trained = _open(run)
    provenance: dict[str, JsonValue] = {"run": trained.digest}
    return publish(out, trained.recipe.name, provenance, partial(_write, trained), _prove)


def _open(run: Path) -> _Trained:
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
    network.fix_side(recipe.embed.side)
    crops = read_npz(_existing(run / "crops.npz"))["crops"]
    return _Trained(run, recipe, network.eval(), crops, facts["recipe"])


def publish(
    out: Path,
    name: str,
    provenance: dict[str, JsonValue],
    write: Callable[[Path], Sequence[Member]],
    prove: Callable[[Path], object],
) -> str:
    """Write an embedder beside ``out``, prove it, and put it in its place.

    Args:
        out: Its folder; new, or an embedder to replace.
        name: Its name.
        provenance: What the manifest says of its origin, beside the version of torch.
        write: Writes all files but the manifest into a folder, and tells the members.
        prove: Raises where the artifact in a folder is not what it should be.

    Returns:
        The embedder's digest.

    Raises:
        TrainingError: ``out`` is in the way.
    """
    _refuse_other_files(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        made = Path(temporary) / "embedder"
        made.mkdir()
        members = tuple(write(made))
        digest = write_manifest(
            made,
            EmbedderManifest(
                name=name,
                dimension=sum(member.dimension for member in members),
                members=members,
                provenance={**provenance, "torch": torch.__version__},
                files={path.name: record(path) for path in sorted(made.iterdir())},
            ),
        )
        sync_tree(made)
        prove(made)
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


def _copy_report(report: Path, copy: Path) -> None:
    """Copy a run's report without its times: equal trainings export equal embedders."""
    if not report.is_file():
        return
    facts = json.loads(report.read_text())
    for part in (facts, *facts["epochs"]):
        for time in [key for key in part if key.startswith("seconds")]:
            del part[time]
    copy.write_text(json.dumps(facts, indent=2) + "\n")


def _write(trained: _Trained, made: Path) -> list[Member]:
    """Write a trained network with its recipe, report and golden vectors."""
    recipe, network = trained.recipe, trained.network
    shutil.copy(trained.folder / "recipe.yaml", made / "recipe.yaml")
    _copy_report(trained.folder / "report.json", made / "report.json")
    _write_golden(made / GOLDEN, trained)
    program = _capture(network, recipe.embed.side)
    _write_onnx(made / "model.onnx", program)
    _write_exported(made / "model.pt2", program)
    return [
        Member(
            name=recipe.name,
            onnx="model.onnx",
            exported="model.pt2",
            dimension=network.dimension,
            preprocess=recipe.embed,
        )
    ]


def _write_golden(path: Path, trained: _Trained) -> None:
    """Write what the network gives, in float32, for drawn pictures and for crops.

    Raises:
        TrainingError: A vector is not finite.
    """
    pictures = [_jpeg(number) for number in range(4)]
    target = trained.recipe.embed
    images = [decode(picture, limits=PictureLimits(), targets=[target]) for picture in pictures]
    vectors = _run(trained.network, np.stack([to_array(image, target) for image in images]))
    crops = trained.crops
    of_crops = _run(trained.network, crops.astype(np.float32)) if len(crops) else vectors[:0]
    if not (np.isfinite(vectors).all() and np.isfinite(of_crops).all()):
        raise TrainingError("the network gives vectors that are not finite; it is not exported")
    named = {f"picture_{i}": np.frombuffer(data, np.uint8) for i, data in enumerate(pictures)}
    write_npz(path, vectors=vectors, crops_0=crops, crop_vectors_0=of_crops, **named)


def _capture(network: nn.Module, side: int) -> ExportedProgram:
    """Capture the network's graph with a free batch size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter talks of its own deprecations
        return torch.export.export(
            network, (torch.zeros(2, 3, side, side),), dynamic_shapes=({0: Dim("n")},)
        )


def _write_onnx(path: Path, program: ExportedProgram) -> None:
    """Write the network as one ONNX file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["pictures"],
            output_names=["vectors"],
            verbose=False,
        )
        if written is None:
            raise TrainingError("torch exported nothing")
        written.save(path, external_data=False)


def _write_exported(path: Path, program: ExportedProgram) -> None:
    """Write the network as a ``torch.export`` archive without example inputs.

    Those would be pickled, and pickled members are refused by whoever loads the archive.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
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


def prove_openvino(made: Path) -> Embedder:
    """Run the artifact by OpenVINO, in float32, and compare with torch's vectors.

    Raises:
        ArtifactDamagedError: It does not agree.
    """
    embedder = Embedder.load(made, device="cpu", precision="f32")
    _log.info("OpenVINO: golden vectors agree to %.7f in f32", embedder.golden_cosine(made))
    return embedder


def _prove(made: Path) -> None:
    """Run both networks of the artifact, in float32, and compare with torch's vectors.

    Raises:
        ArtifactDamagedError: One of them does not agree.
    """
    embedder = prove_openvino(made)
    path = made / "model.pt2"
    exported = Embedder(
        embedder.manifest,
        embedder.digest,
        [TorchExportRuntime(path, precision="f32", device="cpu")],
        device="cpu",
        precision="f32",
        limits=PictureLimits(),
    )
    agreed = exported.golden_cosine(made)
    _log.info("torch.export: golden vectors agree to %.7f in f32", agreed)
    if agreed < GOLDEN_COSINE["f32"]:
        raise ArtifactDamagedError(
            path, f"its vectors agree with torch's only to a cosine of {agreed:.6f}"
        )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ArtifactMissingError(path)
    return path
