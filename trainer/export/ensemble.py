"""Several embedders as one: their networks side by side, their unit vectors concatenated."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from embedder.artifacts.arrays import read_npz, unit_rows, write_npz
from embedder.artifacts.files import check_files
from embedder.errors import ArtifactMismatchError, TrainingError
from embedder.manifest import GOLDEN, Member, read_manifest
from embedder.preprocess import PictureLimits, decode, to_array
from embedder.runtimes.torch_export import TorchExportRuntime
from trainer.export.artifact import Description, publish
from trainer.export.network import verify_openvino
from trainer.recipe import load_ensemble


@dataclass(frozen=True)
class _SingleEmbedder:
    """An embedder of one network, with its default ranking."""

    folder: Path
    member: Member
    exported: str
    digest: str
    ranking: dict[str, JsonValue]


def join(recipe: Path, embedders: Sequence[Path], out: Path) -> str:
    """Join embedders into one.

    Its vector is the members' unit vectors, concatenated in the recipe's order and scaled to
    length 1.

    Args:
        recipe: The ensemble's; it names the recipes of its members.
        embedders: Folders of embedders made by these recipes, in any order.
        out: New, or an embedder to replace.

    Returns:
        The new embedder's digest.

    Raises:
        RecipeError: The recipe has faults.
        TrainingError: The embedders are not those of the members, or ``out`` holds other files.
        ArtifactMissingError: A file of an embedder is missing.
        ArtifactDamagedError: One was altered, or the new embedder does not agree with them.
        ArtifactMismatchError: The embedders have different golden pictures.
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

    Without a default ranking the new one takes that of the members, if they all have the same.
    """
    parts = [_open(folder) for folder in embedders]
    given = [part.member.name for part in parts]
    if sorted(given) != sorted(members):
        raise TrainingError(
            f"{name} joins one embedder each of {', '.join(members)}; given are {', '.join(given)}"
        )
    parts.sort(key=lambda part: members.index(part.member.name))
    digests: dict[str, JsonValue] = {part.member.name: part.digest for part in parts}
    if ranking is None:
        same = all(part.ranking == parts[0].ranking for part in parts)
        ranking = parts[0].ranking if same else {}
    description = Description(name, {"embedders": digests}, ranking)
    return publish(out, description, partial(_write, parts), verify_openvino)


def _open(folder: Path) -> _SingleEmbedder:
    manifest, digest = read_manifest(folder)
    member = manifest.members[0]
    if len(manifest.members) > 1 or member.exported is None:
        raise TrainingError(f"{folder} is not an embedder that a run was exported to")
    check_files(folder, manifest.files, deep=True)
    return _SingleEmbedder(folder, member, member.exported, digest, manifest.ranking)


def _write(parts: Sequence[_SingleEmbedder], folder: Path) -> list[Member]:
    """Write the networks with their recipes and reports, and golden vectors of the whole."""
    _write_golden(folder / GOLDEN, parts)
    return [_copy(part, folder) for part in parts]


def _copy(part: _SingleEmbedder, folder: Path) -> Member:
    name = part.member.name
    onnx, exported = f"{name}.onnx", f"{name}.pt2"
    copies = {part.member.onnx: onnx, part.exported: exported}
    texts = ("recipe.yaml", "report.json", "report.html")
    copies |= {text: f"{name}.{text}" for text in texts if (part.folder / text).is_file()}
    for file, copy in copies.items():
        shutil.copyfile(part.folder / file, folder / copy)
    return part.member.model_copy(update={"onnx": onnx, "exported": exported})


def _write_golden(path: Path, parts: Sequence[_SingleEmbedder]) -> None:
    """Write what torch computes for the golden pictures, and each network's own crops."""
    golden = [read_npz(part.folder / GOLDEN) for part in parts]
    names = [f"picture_{number}" for number in range(len(golden[0]["vectors"]))]
    for part, other in zip(parts, golden, strict=True):
        if any(not np.array_equal(golden[0][name], other.get(name, ())) for name in names):
            raise ArtifactMismatchError(
                f"golden pictures of {part.folder}",
                expected=f"those of {parts[0].folder}",
                found="others; export it anew",
            )
    pictures = {name: golden[0][name] for name in names}
    targets = [part.member.preprocess for part in parts]
    limits = PictureLimits()
    images = [decode(data.tobytes(), limits=limits, targets=targets) for data in pictures.values()]
    vectors = []
    for part, target in zip(parts, targets, strict=True):
        network = TorchExportRuntime(part.folder / part.exported, precision="f32", device="cpu")
        vectors.append(unit_rows(network.run(np.stack([to_array(i, target) for i in images]))))
    crops = {
        f"{name}_{number}": own[f"{name}_0"]
        for number, own in enumerate(golden)
        for name in ("crops", "crop_vectors")
    }
    write_npz(path, vectors=unit_rows(np.hstack(vectors)), **pictures, **crops)
