"""From a network to an embedder artifact that is proved equal to it.

The network is that of a finished run, or a pretrained one as it is.
"""

from __future__ import annotations

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import nn
from torch.export import Dim, ExportedProgram

from embedder.artifacts.arrays import read_npz, write_npz
from embedder.artifacts.files import record, sha256_file, sync_tree
from embedder.embedder import GOLDEN_COSINE, Embedder
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactError,
    TrainingError,
)
from embedder.manifest import (
    GOLDEN,
    EmbedderManifest,
    Member,
    Preprocess,
    read_manifest,
    write_manifest,
)
from embedder.preprocess import PictureLimits, decode, to_array
from embedder.runtimes.torch_export import TorchExportRuntime
from photographs.sample import draw_landmark, draw_scene
from trainer.model import run_folder
from trainer.model.bf16_rounding import with_rounded_weights
from trainer.model.inference_module import InferenceModule
from trainer.model.network import EmbeddingNetwork
from trainer.model.whitening import load_whitening
from trainer.recipe import EmbedderRecipe

_log = logging.getLogger(__name__)

DRAWN_SEED = 2020


@dataclass(frozen=True)
class Finished:
    """A network that can leave the laboratory.

    Attributes:
        name: Of the network.
        network: ``(n, 3, side, side)`` → ``(n, dimension)`` unit rows, as in evaluation.
        dimension: Length of its vectors.
        preprocess: What its input must look like.
        crops: ``(m, 3, side, side)`` normalized crops of photographs, to prove it with.
        texts: Files that go along, by name: the recipe, and what was reported.
        ranking: See :class:`embedder.manifest.EmbedderManifest`.
    """

    name: str
    network: nn.Module
    dimension: int
    preprocess: Preprocess
    crops: NDArray[np.float16]
    texts: Mapping[str, bytes]
    ranking: dict[str, JsonValue] = field(default_factory=dict)


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
    finished, digest = _load_finished(run)
    return publish_network(out, finished, {"run": digest})


def export_backbone(recipe: EmbedderRecipe, out: Path, *, weights: Path | None = None) -> str:
    """Write a pretrained network as an embedder, without any training.

    Args:
        recipe: Its parts, without a whitening.
        out: Folder of the embedder; new, or an embedder to replace.
        weights: Safetensors file of the backbone; None takes timm's.

    Returns:
        The embedder's digest.

    Raises:
        RecipeError: There is no such backbone, or no pretrained weights of it.
        ArtifactMissingError: There is no file of weights.
        ArtifactDamagedError: The weights are not of this backbone; otherwise as for
            :func:`export`.
        TrainingError: As for :func:`export`.
        ValueError: The recipe asks for a whitening.
    """
    if recipe.embed_whiten:
        raise ValueError("there is nothing to learn a whitening from")
    network = EmbeddingNetwork(recipe.network, weights=weights)
    side = recipe.embed.side
    network.fix_input_side(side)
    finished = Finished(
        recipe.name,
        InferenceModule(with_rounded_weights(network), recipe.embed_views).eval(),
        network.dimension,
        recipe.embed,
        np.empty((0, 3, side, side), np.float16),
        {"recipe.yaml": recipe.to_yaml().encode()},
        advised_ranking(recipe),
    )
    provenance: dict[str, JsonValue] = {
        "backbone": recipe.network.backbone,
        "weights": sha256_file(weights) if weights else "timm's",
    }
    return publish_network(out, finished, provenance)


def publish_network(out: Path, finished: Finished, provenance: dict[str, JsonValue]) -> str:
    """Write one network as an embedder, prove it in both engines, and put it in its place.

    Args:
        out: Its folder; new, or an embedder to replace.
        finished: The network.
        provenance: Where it comes from, for people.

    Returns:
        The embedder's digest.

    Raises:
        ArtifactDamagedError: The exported network does not agree with this one.
        TrainingError: Its vectors are not finite, or ``out`` is in the way.
    """
    identity = Identity(finished.name, provenance, finished.ranking)
    return publish(out, identity, partial(_write, finished), _prove)


def advised_ranking(recipe: EmbedderRecipe) -> dict[str, JsonValue]:
    """Write what a recipe says of the ranking as the manifest holds it."""
    return recipe.ranking.model_dump(mode="json", exclude_defaults=True)


def _load_finished(run: Path) -> tuple[Finished, str]:
    """Return the best network of a run, and the digest of all that decided its outcome."""
    best = run_folder.load_trained(run)
    recipe, network = best.recipe, best.network
    network.fix_input_side(recipe.embed.side)
    whitening = load_whitening(run / run_folder.WHITENING) if recipe.embed_whiten else None
    finished = Finished(
        recipe.name,
        InferenceModule(network, recipe.embed_views, whitening).eval(),
        whitening.dimension if whitening else network.dimension,
        recipe.embed,
        read_npz(run / run_folder.CROPS)["crops"],
        {run_folder.RECIPE: (run / run_folder.RECIPE).read_bytes(), **_reports(run)},
        advised_ranking(recipe),
    )
    return finished, best.digest


@dataclass(frozen=True)
class Identity:
    """What an embedder's manifest says beside its networks.

    Attributes:
        name: Of the embedder.
        provenance: Of its origin, beside the version of torch.
        ranking: How its galleries answer where they are not told otherwise.
    """

    name: str
    provenance: dict[str, JsonValue]
    ranking: dict[str, JsonValue] = field(default_factory=dict)


def publish(
    out: Path,
    identity: Identity,
    write: Callable[[Path], Sequence[Member]],
    prove: Callable[[Path], object],
) -> str:
    """Write an embedder beside ``out``, prove it, and put it in its place.

    Args:
        out: Its folder; new, or an embedder to replace.
        identity: What its manifest says beside the networks.
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
                name=identity.name,
                dimension=sum(member.dimension for member in members),
                members=members,
                ranking=identity.ranking,
                provenance={**identity.provenance, "torch": torch.__version__},
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


def _reports(run: Path) -> dict[str, bytes]:
    """Read a run's reports without their times: equal trainings export equal embedders."""
    found = {path.name: path.read_bytes() for path in sorted(run.glob("report.*"))}
    if run_folder.REPORT in found:
        facts = run_folder.read_report(run)
        for part in (facts, *facts["epochs"]):
            for time in [name for name in part if name.startswith("seconds")]:
                del part[time]
        found[run_folder.REPORT] = (json.dumps(facts, indent=2) + "\n").encode()
    return found


def _write(finished: Finished, made: Path) -> list[Member]:
    """Write a network with its texts and golden vectors."""
    for name, text in finished.texts.items():
        (made / name).write_bytes(text)
    _write_golden(made / GOLDEN, finished)
    program = capture(finished.network, finished.preprocess.side)
    _write_onnx(made / "model.onnx", program)
    write_exported(made / "model.pt2", program)
    return [
        Member(
            name=finished.name,
            onnx="model.onnx",
            exported="model.pt2",
            dimension=finished.dimension,
            preprocess=finished.preprocess,
        )
    ]


def _write_golden(path: Path, finished: Finished) -> None:
    """Write what the network gives, in float32, for drawn pictures and for crops.

    Raises:
        TrainingError: A vector is not finite.
    """
    pictures = [_jpeg(number) for number in range(4)]
    target = finished.preprocess
    images = [decode(picture, limits=PictureLimits(), targets=[target]) for picture in pictures]
    vectors = _run(finished.network, np.stack([to_array(image, target) for image in images]))
    crops = finished.crops
    of_crops = _run(finished.network, crops.astype(np.float32)) if len(crops) else vectors[:0]
    if not (np.isfinite(vectors).all() and np.isfinite(of_crops).all()):
        raise TrainingError("the network gives vectors that are not finite; it is not exported")
    named = {f"picture_{i}": np.frombuffer(data, np.uint8) for i, data in enumerate(pictures)}
    write_npz(path, vectors=vectors, crops_0=crops, crop_vectors_0=of_crops, **named)


def capture(network: nn.Module, side: int) -> ExportedProgram:
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


def write_exported(path: Path, program: ExportedProgram) -> None:
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
