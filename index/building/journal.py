"""The journal of an unfinished build: pictures embedded so far, so that no work is repeated.

The photographs of a build are cut into shards of equal length. A shard gets its final name only
when it is complete, so a killed build leaves whole shards or none. A shard is used again only if
it lists the same pictures and none of their files has changed since.
"""

import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedder.artifacts.files import write_atomic
from embedder.errors import ArtifactDamagedError, ArtifactError, ArtifactMissingError
from embedder.picture_files import find_file
from index.building.pipeline import EmbeddedBatch, ReadPicture
from index.gallery.arrow import map_table, new_arrow
from photographs import Photograph

SHARD_PICTURES = 256
"""Pictures per shard: a killed build loses at most these and the ones being decoded."""

_PICTURE = ("sha256", "bytes", "mtime_ns", "fault")

_log = logging.getLogger(__name__)


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
            ]
        )
        directory.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        """Count the shards of the build, complete or not."""
        return math.ceil(len(self.photographs) / SHARD_PICTURES)

    def shard_photographs(self, number: int) -> Sequence[Photograph]:
        """Return the photographs of a shard."""
        return self.photographs[number * SHARD_PICTURES : (number + 1) * SHARD_PICTURES]

    def write(self, number: int, shard: EmbeddedBatch) -> None:
        """Write a complete shard."""
        columns = [
            [photograph.id for photograph in self.shard_photographs(number)],
            *([getattr(picture, name) for picture in shard.pictures] for name in _PICTURE),
            pa.FixedSizeListArray.from_arrays(pa.array(shard.vectors.ravel()), self._dimension),
            pa.array(shard.thumbnails, pa.binary()),
        ]
        sink = pa.BufferOutputStream()
        with new_arrow(sink, self._schema) as writer:
            writer.write_table(pa.table(columns, schema=self._schema))
        write_atomic(self._path(number), sink.getvalue().to_pybytes())

    def read(self, number: int) -> EmbeddedBatch:
        """Read a complete shard.

        Raises:
            ArtifactMissingError: It does not exist.
            ArtifactMismatchError: It has a newer version.
            ArtifactDamagedError: It is not a shard of these photographs.
        """
        path, table = self._path(number), map_table(self._path(number), self._schema)
        ids = [photograph.id for photograph in self.shard_photographs(number)]
        if table["picture_id"].to_pylist() != ids:
            raise ArtifactDamagedError(path, "it lists other pictures")
        columns = (table[name].to_pylist() for name in _PICTURE)
        pictures = [ReadPicture(*values) for values in zip(*columns, strict=True)]
        vectors = table["vector"].combine_chunks().flatten().to_numpy()
        thumbnails = table["thumbnail"].to_pylist()
        return EmbeddedBatch(pictures, vectors.reshape(-1, self._dimension), thumbnails)

    def read_current(self, number: int) -> EmbeddedBatch | None:
        """Read a shard, or return ``None`` where it has to be embedded, perhaps again."""
        try:
            shard = self.read(number)
        except ArtifactMissingError:
            return None
        except ArtifactError as error:
            _log.warning("%s; its pictures are embedded again", error)
            return None
        found = [find_file(photograph.path) for photograph in self.shard_photographs(number)]
        known = [(picture.bytes, picture.mtime_ns) for picture in shard.pictures]
        return shard if found == known else None

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
