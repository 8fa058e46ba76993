"""One network as an embedder: its ONNX and ``torch.export`` files, proved equal to it."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import Dim, ExportedProgram

from embedder.embedder import GOLDEN_COSINE, Embedder
from embedder.errors import ArtifactDamagedError, TrainingError
from embedder.manifest import GOLDEN, Member, Preprocess
from embedder.preprocess import PictureLimits
from embedder.runtimes.torch_export import TorchExportRuntime
from trainer.export.artifact import Description, publish
from trainer.export.golden import write_golden

_ONNX, _EXPORTED = "model.onnx", "model.pt2"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedNetwork:
    """A network that is ready to be exported.

    Attributes:
        network: ``(n, 3, side, side)`` → ``(n, dimension)`` unit rows, in evaluation mode.
        preprocess: What its input must look like.
        crops: ``(m, 3, side, side)`` normalized crops of photographs, for golden vectors.
        texts: Files to add, by name: the recipe and the reports.
    """

    network: nn.Module
    preprocess: Preprocess
    crops: NDArray[np.float16]
    texts: Mapping[str, bytes]


def publish_network(out: Path, description: Description, finished: FinishedNetwork) -> str:
    """Write one network as an embedder, prove it in both engines, and put it in place.

    The name of the description is the network's too. Returns the embedder's digest.

    Raises:
        ArtifactDamagedError: The exported network does not agree with this one.
        TrainingError: Its vectors are not finite, or ``out`` holds other files.
    """
    return publish(out, description, partial(_write, description.name, finished), _verify)


def _write(name: str, finished: FinishedNetwork, folder: Path) -> list[Member]:
    for file, text in finished.texts.items():
        (folder / file).write_bytes(text)
    network, preprocess = finished.network, finished.preprocess
    dimension = write_golden(folder / GOLDEN, network, preprocess, finished.crops)
    program = capture(network, preprocess.side)
    _write_onnx(folder / _ONNX, program)
    write_exported(folder / _EXPORTED, program)
    files = {"onnx": _ONNX, "exported": _EXPORTED}
    return [Member(name=name, dimension=dimension, preprocess=preprocess, **files)]


def capture(network: nn.Module, side: int) -> ExportedProgram:
    """Capture a network's graph with a dynamic batch size."""
    pictures = torch.zeros(2, 3, side, side)
    with warnings.catch_warnings(action="ignore"):  # the exporters warn of their own deprecations
        return torch.export.export(network, (pictures,), dynamic_shapes=({0: Dim("n")},))


def _write_onnx(path: Path, program: ExportedProgram) -> None:
    inputs, outputs = ["pictures"], ["vectors"]
    with warnings.catch_warnings(action="ignore"):
        written = torch.onnx.export(
            program, dynamo=True, input_names=inputs, output_names=outputs, verbose=False
        )
        if written is None:
            raise TrainingError("torch exported nothing")
        written.save(path, external_data=False)


def write_exported(path: Path, program: ExportedProgram) -> None:
    """Write a network as a ``torch.export`` archive without example inputs.

    These would be pickled, and the loader refuses archives with pickled members.
    """
    program.example_inputs = None
    with warnings.catch_warnings(action="ignore"):
        torch.export.save(program, path)


def verify_openvino(folder: Path) -> Embedder:
    """Run an embedder by OpenVINO in float32 and compare with its golden vectors.

    Raises:
        ArtifactDamagedError: It does not agree.
    """
    embedder = Embedder.load(folder, device="cpu", precision="f32")
    _log.info("OpenVINO: golden vectors agree to %.7f in f32", embedder.golden_cosine(folder))
    return embedder


def _verify(folder: Path) -> None:
    """Run both files of an embedder in float32 and compare with its golden vectors."""
    embedder = verify_openvino(folder)
    path = folder / _EXPORTED
    runtimes = [TorchExportRuntime(path, precision="f32", device="cpu")]
    exported = Embedder(
        embedder.manifest,
        embedder.digest,
        runtimes,
        device="cpu",
        precision="f32",
        limits=PictureLimits(),
    )
    cosine = exported.golden_cosine(folder)
    _log.info("torch.export: golden vectors agree to %.7f in f32", cosine)
    if cosine < GOLDEN_COSINE["f32"]:
        reason = f"its vectors agree with torch's only to a cosine of {cosine:.6f}"
        raise ArtifactDamagedError(path, reason)
