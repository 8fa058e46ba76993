"""What an embedder artifact says of itself: members, preprocessing, provenance, digests.

The digest of ``manifest.json`` is the identity of the embedder, since the manifest holds the
digests of all its other files. It holds no time, so equal trainings export equal identities.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from embedder.artifacts.files import FileRecord, check, sha256_bytes, write_atomic
from embedder.errors import ArtifactDamagedError, ArtifactMismatchError, ArtifactMissingError

MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
SCHEMA_VERSION = 1

Triple = tuple[float, float, float]
PlainName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fit(StrEnum):
    """How a picture of any shape becomes a square."""

    SQUASH = "squash"
    """Stretch both sides to ``side``; nothing is lost but the proportions."""
    PAD = "pad"
    """Fit the longer side and fill the rest."""
    CENTER_CROP = "center-crop"
    """Keep the central square."""


class Interpolation(StrEnum):
    """The resampling filter."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class Preprocess(_Frozen):
    """From an upright RGB picture to the network's input; run by :mod:`embedder.preprocess`.

    Attributes:
        side: Height and width of the input in pixels.
        fit: How the picture becomes square.
        crop: For ``center-crop``, the part of the shorter side that is kept, in (0, 1].
        fill: For ``pad``, the RGB color around the picture, 0–255.
        interpolation: The resampling filter.
        antialias: Widen the filter when shrinking, so that fine texture does not alias.
        mean: Per channel, subtracted after scaling to 0–1.
        std: Per channel, divided by. Mean and std of 0.5 give −1..1; 0 and 1 give 0..1.
    """

    side: int = Field(ge=1, le=4096)
    fit: Fit = Fit.SQUASH
    crop: float = Field(default=1.0, gt=0, le=1)
    fill: tuple[int, int, int] = (0, 0, 0)
    interpolation: Interpolation = Interpolation.BICUBIC
    antialias: bool = True
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD

    @model_validator(mode="after")
    def _filter_exists(self) -> Preprocess:
        if not self.antialias and self.interpolation is Interpolation.LANCZOS:
            raise ValueError("lanczos needs antialias")
        if min(self.std) <= 0:
            raise ValueError("std must be positive")
        return self


class Member(_Frozen):
    """One network of an embedder; an ensemble has several.

    Attributes:
        name: Short name, unique in the embedder.
        onnx: File of the network for CPUs.
        exported: File of the network for NVIDIA GPUs (``torch.export``); None if there is none.
        dimension: Length of the vector that this network gives.
        preprocess: What its input must look like.
    """

    name: PlainName
    onnx: PlainName
    exported: PlainName | None
    dimension: int = Field(ge=1)
    preprocess: Preprocess


class EmbedderManifest(_Frozen):
    """The identity card of an embedder artifact.

    Attributes:
        schema_version: Layout of this file; another version is refused.
        name: For people.
        dimension: Length of the embedding: the sum over the members.
        members: The networks, in the order in which their vectors are joined.
        ranking: How its neighbors are best turned into answers, where a gallery is not told
            otherwise; read by :mod:`index.ranking.ranking`, empty for the nearest picture.
        provenance: Where it came from: recipe digest, data, versions. For people.
        files: Record of every other file of the artifact.
    """

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1)
    dimension: int = Field(ge=1)
    members: tuple[Member, ...] = Field(min_length=1)
    ranking: dict[str, JsonValue] = {}
    provenance: dict[str, JsonValue] = {}
    files: dict[PlainName, FileRecord]

    @model_validator(mode="after")
    def _belongs_together(self) -> EmbedderManifest:
        if self.dimension != sum(member.dimension for member in self.members):
            raise ValueError("dimension is not the sum of the members' dimensions")
        if len({member.name for member in self.members}) != len(self.members):
            raise ValueError("two members share a name")
        needed = {GOLDEN, *(member.onnx for member in self.members)}
        needed |= {member.exported for member in self.members if member.exported}
        if missing := needed - self.files.keys():
            raise ValueError(f"no record of {', '.join(sorted(missing))}")
        return self


def write_manifest(directory: Path, manifest: EmbedderManifest) -> str:
    """Write ``manifest.json`` and return its digest, the identity of the embedder."""
    data = (manifest.model_dump_json(indent=2) + "\n").encode()
    write_atomic(directory / MANIFEST, data)
    return sha256_bytes(data)


def read_manifest(directory: Path) -> tuple[EmbedderManifest, str]:
    """Read the manifest of the embedder in ``directory``.

    Returns:
        The manifest, and its digest.

    Raises:
        ArtifactMissingError: There is no manifest.
        ArtifactDamagedError: It is not a manifest.
        ArtifactMismatchError: It has another schema version.
    """
    path = directory / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactMissingError(path) from error
    try:
        content = json.loads(data)
        version = content["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactDamagedError(path, "it is not an embedder manifest") from error
    if version != SCHEMA_VERSION:
        raise ArtifactMismatchError(
            f"schema version of {path}", expected=str(SCHEMA_VERSION), found=str(version)
        )
    try:
        return EmbedderManifest.model_validate_json(data), sha256_bytes(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactDamagedError(path, f"{where}: {first['msg']}") from error


def check_files(directory: Path, manifest: EmbedderManifest) -> None:
    """Compare every file of the embedder with its record, all bytes of it.

    Raises:
        ArtifactMissingError: A file is missing.
        ArtifactDamagedError: A file was altered.
    """
    for name, expected in manifest.files.items():
        check(directory / name, expected, deep=True)
