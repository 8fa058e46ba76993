"""A thumbnail of each row of a gallery. One Arrow file, mapped.

``thumbnails.arrow`` holds a JPEG for each row of the catalog, in record batches of equal length, so
that a row is found by its number and opening reads none of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa

from embedder.errors import ArtifactDamagedError
from index.gallery.arrow import map_arrow, new_arrow

THUMBNAILS = "thumbnails.arrow"

_SCHEMA = pa.schema([pa.field("jpeg", pa.binary())])
_BATCH_ROWS = 1024


class Thumbnails:
    """Open thumbnails. Thread-safe."""

    def __init__(self, batches: pa.ipc.RecordBatchFileReader) -> None:
        self._batches = batches
        self._lock = threading.Lock()

    @classmethod
    def open(cls, directory: Path, *, rows: int) -> Thumbnails:
        """Map the thumbnails in ``directory``, of a gallery of ``rows``.

        Raises:
            ArtifactError: The file is missing, damaged, or has another number of rows.
        """
        path = directory / THUMBNAILS
        batches = map_arrow(path, _SCHEMA)
        last = batches.num_record_batches - 1
        found = last * _BATCH_ROWS + batches.get_batch(last).num_rows if last >= 0 else 0
        if found != rows:
            raise ArtifactDamagedError(path, f"{found} thumbnails for {rows} rows")
        return cls(batches)

    def __getitem__(self, row: int) -> bytes | None:
        """Return the JPEG of a row; ``None`` where none could be made."""
        number, place = divmod(row, _BATCH_ROWS)
        with self._lock:
            batch = self._batches.get_batch(number)
        data: bytes | None = batch["jpeg"][place].as_py()
        return data


def write_thumbnails(directory: Path, thumbnails: Iterable[bytes | None]) -> None:
    """Write the thumbnails of a gallery, one for each row, with few of them in memory."""
    left = iter(thumbnails)
    with new_arrow(directory / THUMBNAILS, _SCHEMA) as writer:
        while batch := list(islice(left, _BATCH_ROWS)):
            writer.write_batch(pa.record_batch([pa.array(batch, pa.binary())], schema=_SCHEMA))
