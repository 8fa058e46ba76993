"""A thumbnail of each row of a gallery. Arrow files, mapped.

``thumbnails.arrow`` of a segment holds a JPEG for each row of its catalog, in record batches of
equal length, so that a row is found by its number and opening reads none of them.
"""

from __future__ import annotations

import threading
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Self

import pyarrow as pa

from embedder.artifacts.files import FileRecord, RecordedFile
from embedder.errors import ArtifactDamagedError
from index.gallery.arrow import map_arrow, new_arrow

THUMBNAILS = "thumbnails.arrow"

_SCHEMA = pa.schema([pa.field("jpeg", pa.binary())])
_BATCH_ROWS = 1024


class Thumbnails:
    """Open thumbnails. Thread-safe."""

    def __init__(
        self, segments: Sequence[pa.ipc.RecordBatchFileReader], rows: Iterable[int]
    ) -> None:
        self._segments = segments
        self._ends = [*accumulate(rows)]
        self._lock = threading.Lock()

    @classmethod
    def open(cls, segments: Mapping[Path, int]) -> Thumbnails:
        """Map the thumbnails of segments, their folders with their rows.

        Raises:
            ArtifactError: A file is missing, damaged, or has another number of rows.
        """
        return cls([_open(*segment) for segment in segments.items()], segments.values())

    def __getitem__(self, row: int) -> bytes | None:
        """Return the JPEG of a row; ``None`` where none could be made."""
        segment = bisect(self._ends, row)
        number, place = divmod(row - (0, *self._ends)[segment], _BATCH_ROWS)
        with self._lock:
            batch = self._segments[segment].get_batch(number)
        data: bytes | None = batch["jpeg"][place].as_py()
        return data


def _open(directory: Path, rows: int) -> pa.ipc.RecordBatchFileReader:
    path = directory / THUMBNAILS
    batches = map_arrow(path, _SCHEMA)
    last = batches.num_record_batches - 1
    found = last * _BATCH_ROWS + batches.get_batch(last).num_rows if last >= 0 else 0
    if found != rows:
        raise ArtifactDamagedError(path, f"{found} thumbnails for {rows} rows")
    return batches


class ThumbnailWriter:
    """Writes the thumbnails of a segment, row after row, with few of them in memory."""

    def __init__(self, directory: Path) -> None:
        self._file = RecordedFile(directory / THUMBNAILS)
        self._writer = new_arrow(self._file, _SCHEMA)
        self._waiting: list[bytes | None] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._waiting:
                self._write(self._waiting)
        finally:
            self._writer.close()
            self._file.close()

    def add(self, thumbnails: Iterable[bytes | None]) -> None:
        """Append thumbnails; ``None`` for a row that has none."""
        for thumbnail in thumbnails:
            self._waiting.append(thumbnail)
            if len(self._waiting) == _BATCH_ROWS:
                self._write(self._waiting)
                self._waiting = []

    def record(self) -> FileRecord:
        """Return the record of the file, once it is written."""
        return self._file.record()

    def _write(self, batch: list[bytes | None]) -> None:
        self._writer.write_batch(pa.record_batch([pa.array(batch, pa.binary())], schema=_SCHEMA))
