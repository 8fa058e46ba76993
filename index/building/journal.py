"""The journal of an unfinished build: pictures embedded so far, so that no work is repeated.

The photographs of a build are cut into shards of equal length. A shard gets its final name only
when it is complete, so a killed build leaves whole shards or none. A shard is used again only if
it lists the same pictures and none of their files has changed since.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedder.artifacts.files import write_atomic
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactError,
    ArtifactMismatchError,
    ArtifactMissingError,
)
from index.building.pipeline import ReadPicture, find_file
from photographs import Photograph

SHARD_PICTURES = 256
"""Pictures per shard: a killed build loses at most these and the ones being decoded."""

VERSION = 1
"""Layout of a shard, in the metadata of its Arrow schema; a shard without one has version 1."""

_PICTURE = ("sha256", "bytes", "mtime_ns", "fault")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """A complete shard.

    Attributes:
        photographs: Its ``s`` photographs, in order.
        pictures: The file of each, as it was read.
        vectors: ``(s, d)`` unit rows; zeros for an unusable picture.
        thumbnails: A small JPEG of each, or ``None``.
    """

    photographs: Sequence[Photograph]
    pictures: Sequence[ReadPicture]
    vectors: NDArray[np.float32]
    thumbnails: Sequence[bytes | None]


class Journal:
    """The shards of one build.

    Args:
        directory: Holds the shards; made if it does not exist.
        photographs: What the build embeds, in order.
        dimension: Length of a vector.
    """

    def __init__(
        self, directory: Path, photographs: Sequence[Photograph], *, dimension: int
    ) -> None:
        self.directory = directory
        self.photographs = photographs
        self._dimension = dimension
        self._schema = pa.schema(
            [
                pa.field("picture_id", pa.string()),
                pa.field("sha256", pa.binary(32)),
                pa.field("bytes", pa.int64()),
                pa.field("mtime_ns", pa.int64()),
                pa.field("fault", pa.string()),
                pa.field("vector", pa.list_(pa.float32(), dimension)),
                pa.field("thumbnail", pa.binary()),
            ],
            metadata={"version": str(VERSION)},
        )
        directory.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        """Count the shards of the build, complete or not."""
        return math.ceil(len(self.photographs) / SHARD_PICTURES)

    def shard_photographs(self, number: int) -> Sequence[Photograph]:
        """Return the photographs of a shard."""
        return self.photographs[number * SHARD_PICTURES : (number + 1) * SHARD_PICTURES]

    def write(self, number: int, shard: Shard) -> None:
        """Write a complete shard."""
        columns = [
            [photograph.id for photograph in shard.photographs],
            *([getattr(picture, name) for picture in shard.pictures] for name in _PICTURE),
            pa.FixedSizeListArray.from_arrays(pa.array(shard.vectors.ravel()), self._dimension),
            pa.array(shard.thumbnails, pa.binary()),
        ]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self._schema) as writer:
            writer.write_table(pa.table(columns, schema=self._schema))
        write_atomic(self._path(number), sink.getvalue().to_pybytes())

    def read(self, number: int) -> Shard:
        """Read a complete shard.

        Raises:
            ArtifactMissingError: It does not exist.
            ArtifactMismatchError: It has a newer version.
            ArtifactDamagedError: It is not a shard of these photographs.
        """
        path, photographs = self._path(number), self.shard_photographs(number)
        try:
            table = pa.ipc.open_file(path.read_bytes()).read_all()
        except FileNotFoundError as error:
            raise ArtifactMissingError(path) from error
        except (OSError, pa.ArrowException) as error:
            raise ArtifactDamagedError(path, "it is not an Arrow file") from error
        version = int((table.schema.metadata or {}).get(b"version", b"1"))
        if version > VERSION:
            raise ArtifactMismatchError(
                f"version of {path}", expected=str(VERSION), found=str(version)
            )
        ids = [photograph.id for photograph in photographs]
        if not table.schema.equals(self._schema) or table["picture_id"].to_pylist() != ids:
            raise ArtifactDamagedError(path, "it lists other pictures")
        columns = (table[name].to_pylist() for name in _PICTURE)
        pictures = [ReadPicture(*values) for values in zip(*columns, strict=True)]
        vectors = table["vector"].combine_chunks().flatten().to_numpy()
        thumbnails = table["thumbnail"].to_pylist()
        return Shard(photographs, pictures, vectors.reshape(-1, self._dimension), thumbnails)

    def read_current(self, number: int) -> Shard | None:
        """Read a shard, or return ``None`` where it has to be embedded, perhaps again."""
        try:
            shard = self.read(number)
        except ArtifactMissingError:
            return None
        except ArtifactError as error:
            _log.warning("%s; its pictures are embedded again", error)
            return None
        for photograph, picture in zip(shard.photographs, shard.pictures, strict=True):
            if find_file(photograph.path) != (picture.bytes, picture.mtime_ns):
                return None
        return shard

    def entries(self) -> Iterator[tuple[ReadPicture, NDArray[np.float32], bytes | None]]:
        """Yield picture, vector and thumbnail of each photograph of a complete journal."""
        for number in range(len(self)):
            shard = self.read(number)
            yield from zip(shard.pictures, shard.vectors, shard.thumbnails, strict=True)

    def discard(self) -> None:
        """Delete the journal after the build was published."""
        shutil.rmtree(self.directory)

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06d}.arrow"
