"""What a gallery says of itself: its kind, its embedder, its photographs, its files."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedder.digest import FileRecord, check, write_atomic
from embedder.errors import ArtifactDamagedError, ArtifactMismatchError, ArtifactMissingError

MANIFEST = "manifest.json"
SCHEMA_VERSION = 2

_DIGEST = r"^sha256:[0-9a-f]{64}$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbedderReference(_Frozen):
    """The embedder that made the vectors, and how it was run.

    Attributes:
        name: For people.
        digest: Its identity; a gallery is opened only with this embedder.
        runtime: The engine that ran it.
        precision: The arithmetic it was run in.
    """

    name: str
    digest: str = Field(pattern=_DIGEST)
    runtime: str
    precision: str


class ListReference(_Frozen):
    """A list of photographs that was asked for: one source of a gallery.

    Attributes:
        data: The data folder, absolute; paths in the catalog are relative to it.
        name: The list file, or ``folders`` where each folder is a landmark.
        digest: Of the ids, landmarks and paths of the list.
        pictures: How many it lists.
    """

    data: str
    name: str
    digest: str = Field(pattern=_DIGEST)
    pictures: int = Field(ge=1)


class GalleryManifest(_Frozen):
    """The identity card of a gallery.

    Attributes:
        schema_version: Layout of this file; another version is refused.
        build_id: The name of its directory in the store.
        created: When it was published.
        kind: ``exact``: every vector in fp16, all of them compared.
        factory: The same in FAISS's words.
        rows: How many vectors.
        landmarks: How many landmarks they show.
        dimension: Length of a vector.
        embedder: What made the vectors.
        list: What was asked for when it was first built.
        added: What was added since, in that order.
        unreadable: How many pictures of the list are left out because they cannot be read.
        files: Record of every other file of the gallery.
    """

    schema_version: Literal[2] = 2
    build_id: str
    created: datetime
    kind: Literal["exact"] = "exact"
    factory: Literal["SQfp16"] = "SQfp16"
    rows: int = Field(ge=1)
    landmarks: int = Field(ge=1)
    dimension: int = Field(ge=1)
    embedder: EmbedderReference
    list: ListReference
    added: tuple[ListReference, ...] = ()
    unreadable: int = Field(ge=0)
    files: dict[str, FileRecord]

    @property
    def sources(self) -> tuple[ListReference, ...]:
        """Every list that was asked for; the catalog names them by their place here."""
        return (self.list, *self.added)


def write_manifest(directory: Path, manifest: GalleryManifest) -> None:
    """Write ``manifest.json`` into ``directory``."""
    write_atomic(directory / MANIFEST, (manifest.model_dump_json(indent=2) + "\n").encode())


def read_manifest(directory: Path) -> GalleryManifest:
    """Read the manifest of the gallery in ``directory``.

    Raises:
        ArtifactMissingError: There is no manifest.
        ArtifactDamagedError: It is not a gallery's manifest.
        ArtifactMismatchError: It has another schema version.
    """
    path = directory / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactMissingError(path) from error
    try:
        version = json.loads(data)["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactDamagedError(path, "it is not a gallery manifest") from error
    if version != SCHEMA_VERSION:
        raise ArtifactMismatchError(
            f"schema version of {path}", expected=str(SCHEMA_VERSION), found=str(version)
        )
    try:
        return GalleryManifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactDamagedError(path, f"{where}: {first['msg']}") from error


def check_files(directory: Path, manifest: GalleryManifest, *, deep: bool) -> None:
    """Compare every file of the gallery with its record.

    Args:
        directory: The gallery.
        manifest: Its manifest.
        deep: Read large files too; otherwise only their size is compared.

    Raises:
        ArtifactMissingError: A file is missing.
        ArtifactDamagedError: A file was altered or truncated.
    """
    for name, expected in manifest.files.items():
        check(directory / name, expected, deep=deep)
