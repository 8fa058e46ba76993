"""Several embedders as one: their networks side by side, their unit vectors joined."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from embedder.artifacts.arrays import read_npz, unit_rows, write_npz
from embedder.artifacts.files import check_files
from embedder.errors import ArtifactMismatchError, TrainingError
from embedder.manifest import GOLDEN, Member, read_manifest
from embedder.preprocess import PictureLimits, decode, to_array
from embedder.runtimes.torch_export import TorchExportRuntime
from trainer.export.export import Identity, prove_openvino, publish
from trainer.recipe import load_ensemble


@dataclass(frozen=True)
class _Part:
    """An embedder of one network.

    Attributes:
        folder: Its.
        member: Its network.
        exported: File of that network for torch.
        digest: The embedder's.
        ranking: What the embedder advises.
    """

    folder: Path
    member: Member
    exported: str
    digest: str
    ranking: dict[str, JsonValue]


def join(recipe: Path, embedders: Sequence[Path], out: Path) -> str:
    """Join embedders into one.

    Its vector is the members' unit vectors, joined in the recipe's order and scaled to length 1.

    Args:
        recipe: The ensemble's; it names the recipes of its members.
        embedders: Folders of embedders made by these recipes, in any order.
        out: Folder of the new embedder; new, or an embedder to replace.

    Returns:
        The new embedder's digest.

    Raises:
        RecipeError: The recipe has faults.
        TrainingError: The embedders are not those of the members, or ``out`` is in the way.
        ArtifactMissingError: A file of an embedder is missing.
        ArtifactDamagedError: One was altered, or the new embedder does not agree with them.
        ArtifactMismatchError: The embedders prove themselves on different pictures.
    """
    ensemble, names = load_ensemble(recipe)
    return join_named(ensemble.name, names, embedders, out)


def join_named(
    name: str,
    members: Sequence[str],
    embedders: Sequence[Path],
    out: Path,
    *,
    ranking: dict[str, JsonValue] | None = None,
) -> str:
    """Join embedders of given names, in the order of these; otherwise as :func:`join`.

    Args:
        name: Of the new embedder.
        members: Names of the embedders.
        embedders: Their folders, in any order.
        out: Folder of the new embedder; new, or an embedder to replace.
        ranking: How its galleries answer where they are not told otherwise; by default as all
            the embedders advise, if they advise the same.
    """
    found = [_open(folder) for folder in embedders]
    if sorted(part.member.name for part in found) != sorted(members):
        raise TrainingError(
            f"{name} joins one embedder each of {', '.join(members)}; "
            f"given are {', '.join(part.member.name for part in found)}"
        )
    parts = sorted(found, key=lambda part: members.index(part.member.name))
    digests: dict[str, JsonValue] = {part.member.name: part.digest for part in parts}
    if ranking is None:
        agreed = all(part.ranking == parts[0].ranking for part in parts)
        ranking = parts[0].ranking if agreed else {}
    identity = Identity(name, {"embedders": digests}, ranking)
    return publish(out, identity, partial(_write, parts), prove_openvino)


def _open(folder: Path) -> _Part:
    manifest, digest = read_manifest(folder)
    member = manifest.members[0]
    if len(manifest.members) > 1 or member.exported is None:
        raise TrainingError(f"{folder} is not an embedder that a run was exported to")
    check_files(folder, manifest.files, deep=True)
    return _Part(folder, member, member.exported, digest, manifest.ranking)


def _write(parts: Sequence[_Part], made: Path) -> list[Member]:
    """Write the networks with their recipes and reports, and golden vectors of the whole."""
    _write_golden(made / GOLDEN, parts)
    return [_copy(part, made) for part in parts]


def _copy(part: _Part, made: Path) -> Member:
    """Copy the files of a network; they bear its name."""
    name = part.member.name
    copied = {part.member.onnx: f"{name}.onnx", part.exported: f"{name}.pt2"}
    for file in ("recipe.yaml", "report.json", "report.html"):
        if (part.folder / file).is_file():
            copied[file] = f"{name}.{file}"
    for file, renamed in copied.items():
        shutil.copyfile(part.folder / file, made / renamed)
    return part.member.model_copy(update={"onnx": f"{name}.onnx", "exported": f"{name}.pt2"})


def _write_golden(path: Path, parts: Sequence[_Part]) -> None:
    """Write what torch gives for pictures that are decoded once for all networks."""
    golden = [read_npz(part.folder / GOLDEN) for part in parts]
    names = [f"picture_{number}" for number in range(len(golden[0]["vectors"]))]
    for part, other in zip(parts, golden, strict=True):
        if any(not np.array_equal(golden[0][name], other.get(name, ())) for name in names):
            raise ArtifactMismatchError(
                f"golden pictures of {part.folder}",
                expected=f"those of {parts[0].folder}",
                found="others; export it anew",
            )
    targets = [part.member.preprocess for part in parts]
    limits = PictureLimits()
    images = [decode(golden[0][n].tobytes(), limits=limits, targets=targets) for n in names]
    vectors: list[NDArray[np.float32]] = []
    for part, target in zip(parts, targets, strict=True):
        network = TorchExportRuntime(part.folder / part.exported, precision="f32", device="cpu")
        rows = network.run(np.stack([to_array(image, target) for image in images]))
        vectors.append(unit_rows(rows))
    crops = {
        f"{name}_{number}": own[f"{name}_0"]
        for number, own in enumerate(golden)
        for name in ("crops", "crop_vectors")
    }
    pictures = {name: golden[0][name] for name in names}
    write_npz(path, vectors=unit_rows(np.hstack(vectors)), **pictures, **crops)
