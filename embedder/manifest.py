"""The manifest of an embedder: members, preprocessing, provenance, digests.

The digest of ``manifest.json`` is the identity of the embedder, since the manifest holds the
digests of all its other files. It holds no time, so equal trainings export equal identities.
"""

from __future__ import annotations

import operator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints, model_validator

from embedder.artifacts.documents import FrozenModel, read_document, validate, write_document
from embedder.artifacts.files import FileRecord, sha256_bytes

MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
SCHEMA_VERSION = 1

Triple = tuple[float, float, float]
PlainName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


class Fit(StrEnum):
    """How a picture of any shape becomes a square."""

    SQUASH = "squash"
    """Stretch both sides to ``side``; only the proportions are lost."""
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


class Preprocess(FrozenModel):
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
        color_profiles: Bring a picture's colors to sRGB by its ICC profile; off, they are taken
            as they are, as all embedders did that do not say so.
    """

    side: int = Field(ge=1, le=4096)
    fit: Fit = Fit.SQUASH
    crop: float = Field(default=1.0, gt=0, le=1)
    fill: tuple[int, int, int] = (0, 0, 0)
    interpolation: Interpolation = Interpolation.BICUBIC
    antialias: bool = True
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    color_profiles: bool = Field(default=False, exclude_if=operator.not_)

    @model_validator(mode="after")
    def _filter_exists(self) -> Preprocess:
        if not self.antialias and self.interpolation is Interpolation.LANCZOS:
            raise ValueError("lanczos needs antialias")
        if min(self.std) <= 0:
            raise ValueError("std must be positive")
        return self


class Member(FrozenModel):
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


class EmbedderManifest(FrozenModel):
    """The manifest of an embedder artifact.

    Attributes:
        schema_version: Layout of this file; another version is refused.
        name: For people.
        dimension: Length of the embedding: the sum over the members.
        members: The networks, in the order in which their vectors are joined.
        ranking: The default ranking of a gallery made with it; read by
            :mod:`index.ranking.ranking`, empty for the nearest picture.
        provenance: Where it came from: recipe digest, data, versions. For people.
        files: Record of every other file of the artifact.
    """

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1)
    dimension: int = Field(ge=1)
    members: tuple[Member, ...] = Field(min_length=1)
    ranking: dict[str, JsonValue] = Field(default_factory=dict)
    provenance: dict[str, JsonValue] = Field(default_factory=dict)
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
    return sha256_bytes(write_document(directory / MANIFEST, manifest))


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
    content, data = read_document(path, "an embedder manifest", newest=SCHEMA_VERSION)
    return validate(path, EmbedderManifest, content), sha256_bytes(data)
