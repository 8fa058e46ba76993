"""Pictures embedded so far of a build that is not finished, so that no work is done twice.

The list of a build is cut into shards of the same length. A shard is embedded as a whole and
written under its final name only when it is complete, so that whatever kills the build, each
shard is there or not there. A shard is taken up again only if it still speaks of the same
pictures and none of their files has changed since.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedder.artifacts.files import write_atomic
from embedder.errors import ArtifactDamagedError, ArtifactError, ArtifactMissingError
from index.building.pipeline import ReadPicture, find_file
from photographs import Photograph

SHARD_PICTURES = 256
"""Pictures of a shard: what a killed build loses at most, but for those being decoded."""

_PICTURE = ("sha256", "bytes", "mtime_ns", "fault")


@dataclass(frozen=True, slots=True)
class Shard:
    """A complete shard.

    Attributes:
        photographs: Its ``s`` photographs, in the order of the list.
        pictures: The file of each, as it was found.
        vectors: ``(s, d)`` unit rows; zeros for a picture that cannot be used.
        thumbnails: A small JPEG of each; ``None`` where it has none.
    """

    photographs: Sequence[Photograph]
    pictures: Sequence[ReadPicture]
    vectors: NDArray[np.float32]
    thumbnails: Sequence[bytes | None]


class Journal:
    """The shards of one build.

    Attributes:
        directory: Where they are kept; made if it is not there.
        listed: The photographs of the build, in their order.
        dimension: Length of a vector.
    """

    def __init__(self, directory: Path, listed: Sequence[Photograph], *, dimension: int) -> None:
        self.directory = directory
        self.listed = listed
        self.dimension = dimension
        self._schema = pa.schema(
            [
                pa.field("picture_id", pa.string()),
                pa.field("sha256", pa.binary(32)),
                pa.field("bytes", pa.int64()),
                pa.field("mtime_ns", pa.int64()),
                pa.field("fault", pa.string()),
                pa.field("vector", pa.list_(pa.float32(), dimension)),
                pa.field("thumbnail", pa.binary()),
            ]
        )
        directory.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        """Count the shards of the list, complete or not."""
        return math.ceil(len(self.listed) / SHARD_PICTURES)

    def photographs(self, number: int) -> Sequence[Photograph]:
        """Return the photographs of a shard."""
        return self.listed[number * SHARD_PICTURES : (number + 1) * SHARD_PICTURES]

    def write(self, number: int, shard: Shard) -> None:
        """Keep a shard."""
        columns = [
            [photograph.id for photograph in shard.photographs],
            *([getattr(picture, name) for picture in shard.pictures] for name in _PICTURE),
            pa.FixedSizeListArray.from_arrays(pa.array(shard.vectors.ravel()), self.dimension),
            pa.array(shard.thumbnails, pa.binary()),
        ]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self._schema) as writer:
            writer.write_table(pa.table(columns, schema=self._schema))
        write_atomic(self._path(number), sink.getvalue().to_pybytes())

    def read(self, number: int) -> Shard:
        """Return a complete shard.

        Raises:
            ArtifactMissingError: It is not there.
            ArtifactDamagedError: It is not a shard of these photographs.
        """
        path, photographs = self._path(number), self.photographs(number)
        try:
            table = pa.ipc.open_file(path.read_bytes()).read_all()
        except FileNotFoundError as error:
            raise ArtifactMissingError(path) from error
        except (OSError, pa.ArrowException) as error:
            raise ArtifactDamagedError(path, "it is not an Arrow file") from error
        expected = [photograph.id for photograph in photographs]
        if not table.schema.equals(self._schema) or table["picture_id"].to_pylist() != expected:
            raise ArtifactDamagedError(path, "it speaks of other pictures")
        columns = (table[name].to_pylist() for name in _PICTURE)
        pictures = [ReadPicture(*values) for values in zip(*columns, strict=True)]
        vectors = table["vector"].combine_chunks().flatten().to_numpy()
        thumbnails = table["thumbnail"].to_pylist()
        return Shard(photographs, pictures, vectors.reshape(-1, self.dimension), thumbnails)

    def read_current(self, number: int) -> Shard | None:
        """Return a shard, or ``None`` where it has to be embedded, again or for the first time."""
        try:
            shard = self.read(number)
        except ArtifactError:
            return None
        for photograph, picture in zip(shard.photographs, shard.pictures, strict=True):
            if find_file(photograph.path) != (picture.bytes, picture.mtime_ns):
                return None
        return shard

    def discard(self) -> None:
        """Delete the journal: the build is published."""
        shutil.rmtree(self.directory)

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06d}.arrow"
