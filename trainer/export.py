"""From finished runs to an embedder artifact, proved equal to the networks that were trained."""

from __future__ import annotations

import io
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import nn
from torch.export import Dim

from embedder.arrays import read_npz, unit_rows, write_npz
from embedder.digest import record, sync_tree
from embedder.embedder import GOLDEN_COSINE, Embedder
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactError,
    ArtifactMismatchError,
    ArtifactMissingError,
    TrainingError,
)
from embedder.manifest import EmbedderManifest, Member, read_manifest, write_manifest
from embedder.preprocess import PictureLimits, decode, to_array
from embedder.runtimes.torch_export import TorchExportRuntime
from trainer import checkpoint
from trainer.data.drawn import draw_landmark, draw_scene
from trainer.network import EmbeddingNetwork
from trainer.recipe import Recipe, load_ensemble, load_recipe

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
    return _publish(out, trained.recipe.name, [trained], {"run": trained.digest})


def export_ensemble(recipe: Path, runs: Sequence[Path], out: Path) -> str:
    """Write the best networks of several runs as one embedder.

    Its vector is the members' unit vectors, joined in the recipe's order and scaled to length 1.

    Args:
        recipe: The ensemble's; it names the recipes of its members.
        runs: Folders of runs of these recipes, in any order.
        out: Folder of the embedder; new, or an embedder to replace.

    Returns:
        The embedder's digest.

    Raises:
        RecipeError: The recipe has faults.
        TrainingError: The runs are not those of the members; otherwise as for :func:`export`.
        ArtifactMissingError: As for :func:`export`.
        ArtifactDamagedError: As for :func:`export`.
    """
    ensemble, names = load_ensemble(recipe)
    found = [load_recipe(_existing(run / "recipe.yaml")).name for run in runs]
    if sorted(found) != sorted(names):
        raise TrainingError(
            f"{ensemble.name} joins one run each of {', '.join(names)}; "
            f"given are runs of {', '.join(found)}"
        )
    members = [_open(runs[found.index(name)]) for name in names]
    digests: dict[str, JsonValue] = {member.recipe.name: member.digest for member in members}
    return _publish(out, ensemble.name, members, {"runs": digests})


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


def _publish(
    out: Path, name: str, members: Sequence[_Trained], provenance: dict[str, JsonValue]
) -> str:
    """Write the artifact beside ``out``, prove it, and put it in its place."""
    _refuse_other_files(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        made = Path(temporary) / "embedder"
        made.mkdir()
        write_golden(made / "golden.npz", members)
        described = [_write_member(made, member, alone=len(members) == 1) for member in members]
        digest = write_manifest(
            made,
            EmbedderManifest(
                name=name,
                dimension=sum(member.dimension for member in described),
                members=tuple(described),
                provenance={**provenance, "torch": torch.__version__},
                files={path.name: record(path) for path in sorted(made.iterdir())},
            ),
        )
        sync_tree(made)
        _prove(made)
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


def _write_member(made: Path, trained: _Trained, *, alone: bool) -> Member:
    """Write one network with its recipe and report; in an ensemble its files bear its name."""
    recipe = trained.recipe
    stem, prefix = ("model", "") if alone else (recipe.name, f"{recipe.name}.")
    shutil.copy(trained.folder / "recipe.yaml", made / f"{prefix}recipe.yaml")
    _copy_report(trained.folder / "report.json", made / f"{prefix}report.json")
    write_onnx(made / f"{stem}.onnx", trained.network, recipe.embed.side)
    write_exported(made / f"{stem}.pt2", trained.network, recipe.embed.side)
    return Member(
        name=recipe.name,
        onnx=f"{stem}.onnx",
        exported=f"{stem}.pt2",
        dimension=trained.network.dimension,
        preprocess=recipe.embed,
    )


def write_golden(path: Path, members: Sequence[_Trained]) -> None:
    """Write what the networks give, in float32, for drawn pictures and for crops.

    Raises:
        TrainingError: A vector is not finite.
    """
    pictures = [_jpeg(number) for number in range(4)]
    targets = [member.recipe.embed for member in members]
    images = [decode(p, limits=PictureLimits(), targets=targets) for p in pictures]
    arrays: dict[str, NDArray[Any]] = {
        f"picture_{i}": np.frombuffer(data, np.uint8) for i, data in enumerate(pictures)
    }
    parts = []
    for number, (member, target) in enumerate(zip(members, targets, strict=True)):
        parts.append(_run(member.network, np.stack([to_array(image, target) for image in images])))
        crops = member.crops
        of_crops = _run(member.network, crops.astype(np.float32)) if len(crops) else parts[-1][:0]
        if not (np.isfinite(parts[-1]).all() and np.isfinite(of_crops).all()):
            raise TrainingError("the network gives vectors that are not finite; it is not exported")
        arrays |= {f"crops_{number}": crops, f"crop_vectors_{number}": of_crops}
    vectors = parts[0] if len(parts) == 1 else unit_rows(np.hstack(parts))
    write_npz(path, vectors=vectors, **arrays)


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
            made / (embedder.manifest.members[0].exported or ""),
            f"its vectors agree with torch's only to a cosine of {agreed:.6f}",
        )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ArtifactMissingError(path)
    return path
