"""The folder of an embedder: written aside, proved, then put in place as a whole."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import JsonValue

from embedder.artifacts.files import record, sync_tree
from embedder.errors import ArtifactError, TrainingError
from embedder.manifest import EmbedderManifest, Member, read_manifest, write_manifest
from trainer.export.readme import write_readme


@dataclass(frozen=True)
class Description:
    """What the manifest of an embedder says beside its networks.

    Attributes:
        name: Name of the embedder.
        provenance: Where it comes from, for people; the version of torch is added.
        ranking: See :class:`embedder.manifest.EmbedderManifest`.
    """

    name: str
    provenance: dict[str, JsonValue]
    ranking: dict[str, JsonValue] = field(default_factory=dict)


def publish(
    out: Path,
    description: Description,
    write: Callable[[Path], Sequence[Member]],
    verify: Callable[[Path], object],
) -> str:
    """Write an embedder beside ``out``, verify it, and move it there.

    Args:
        out: New, or an embedder to replace.
        description: What its manifest says beside the networks.
        write: Writes all files but the manifest and its README into a folder, and returns the
            networks.
        verify: Raises if the embedder in a folder does not agree with its golden vectors.

    Returns:
        The embedder's digest.

    Raises:
        TrainingError: ``out`` holds other files.
    """
    refuse_other_files(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / "embedder"
        folder.mkdir()
        members = tuple(write(folder))
        provenance = {**description.provenance, "torch": torch.__version__}
        write_readme(folder, description.name, members, provenance)
        digest = write_manifest(
            folder,
            EmbedderManifest(
                name=description.name,
                dimension=sum(member.dimension for member in members),
                members=members,
                ranking=description.ranking,
                provenance=provenance,
                files={path.name: record(path) for path in sorted(folder.iterdir())},
            ),
        )
        sync_tree(folder)
        verify(folder)
        if out.exists():
            out.replace(Path(temporary) / "old")
        folder.replace(out)
    return digest


def refuse_other_files(out: Path) -> None:
    """Raise a TrainingError unless ``out`` is an embedder, an empty folder, or not there."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        read_manifest(out)
    except ArtifactError as error:
        reason = f"{out} holds other files; choose a new folder for the embedder"
        raise TrainingError(reason) from error
