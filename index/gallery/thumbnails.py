"""A small picture of each row of a gallery, for people to look at. One Arrow file, mapped.

``thumbnails.arrow`` holds a JPEG for each row of the catalog, in its order, cut into pieces of the
same number of rows, so that a row is found by its number and opening reads none of them.
Nothing here knows what the pictures show.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa

from embedder.errors import ArtifactDamagedError, ArtifactMissingError

THUMBNAILS = "thumbnails.arrow"

_SCHEMA = pa.schema([pa.field("jpeg", pa.binary())])
_PIECE_ROWS = 1024


class Thumbnails:
    """Open thumbnails. Safe to read from several threads."""

    def __init__(self, pieces: pa.ipc.RecordBatchFileReader) -> None:
        self._pieces = pieces
        self._one_at_a_time = threading.Lock()

    @classmethod
    def open(cls, directory: Path, *, rows: int) -> Thumbnails:
        """Map the thumbnails in ``directory``, of a gallery of ``rows``.

        Raises:
            ArtifactMissingError: There is no such file.
            ArtifactDamagedError: It is not a file of thumbnails, or not of so many.
        """
        path = directory / THUMBNAILS
        try:
            pieces = pa.ipc.open_file(pa.memory_map(str(path)))
        except FileNotFoundError as error:
            raise ArtifactMissingError(path) from error
        except (pa.ArrowException, OSError) as error:
            raise ArtifactDamagedError(path, "it is not an Arrow file") from error
        if not pieces.schema.equals(_SCHEMA):
            raise ArtifactDamagedError(path, "its columns are not those of thumbnails")
        last = pieces.num_record_batches - 1
        found = last * _PIECE_ROWS + pieces.get_batch(last).num_rows if last >= 0 else 0
        if found != rows:
            raise ArtifactDamagedError(path, f"{found} thumbnails for {rows} rows")
        return cls(pieces)

    def __getitem__(self, row: int) -> bytes | None:
        """Return the JPEG file of a row; ``None`` where none could be made.

        Raises:
            IndexError: There is no such row.
        """
        piece, place = divmod(row, _PIECE_ROWS)
        data: bytes | None = self._piece(piece)["jpeg"][place].as_py()
        return data

    def _piece(self, number: int) -> pa.RecordBatch:
        with self._one_at_a_time:
            return self._pieces.get_batch(number)


def write_thumbnails(directory: Path, thumbnails: Iterable[bytes | None]) -> None:
    """Write the thumbnails of a gallery, holding few of them in memory.

    Args:
        directory: Where the file goes.
        thumbnails: One for each row, in their order.

    Raises:
        OSError: The file cannot be written.
    """
    left = iter(thumbnails)
    with pa.ipc.new_file(str(directory / THUMBNAILS), _SCHEMA) as writer:
        while piece := list(islice(left, _PIECE_ROWS)):
            writer.write_batch(pa.record_batch([pa.array(piece, pa.binary())], schema=_SCHEMA))
