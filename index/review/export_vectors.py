"""Export the vectors of a gallery to a Parquet file, for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedder.artifacts.files import atomic_file
from embedder.errors import CatalogError
from index.gallery.gallery import Gallery
from index.progress import progress_bar

_BLOCK_ROWS = 1 << 14


@dataclass(frozen=True, slots=True)
class ExportedVectors:
    """Vectors written to a file.

    Attributes:
        path: The file.
        rows: Number of vectors.
        dimension: Their length.
        bytes: Size of the file.
        build_id: The gallery.
        embedder: Digest of the embedder that made them.
    """

    path: str
    rows: int
    dimension: int
    bytes: int
    build_id: str
    embedder: str


def export_vectors(gallery: Gallery, out: Path) -> ExportedVectors:
    """Write ``picture_id, landmark_id, sha256, vector`` of each picture, without removed ones.

    ``sha256`` is the digest of the picture's file in hexadecimal, ``vector`` a list of fixed
    size of float32. The metadata of the schema has the build, the embedder's name and digest,
    its runtime and precision. A few thousand rows are in memory at a time; the file is written
    whole or not at all, in a folder that is created.

    Raises:
        CatalogError: ``out`` is a folder.
        OSError: It cannot be written.
    """
    if out.is_dir():
        raise CatalogError(out, "it is a folder; name a file for the vectors")
    out.parent.mkdir(parents=True, exist_ok=True)
    manifest, schema = gallery.manifest, _schema(gallery)
    dictionaries = ["landmark_id"]  # ids and digests never repeat, and numbers hardly do
    with (
        atomic_file(out) as file,
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=dictionaries) as writer,
        progress_bar(len(gallery), what="export", unit="row") as bar,
    ):
        for batch in _batches(gallery, schema):
            writer.write_batch(batch)
            bar.update(len(batch))
    return ExportedVectors(
        path=str(out),
        rows=len(gallery),
        dimension=manifest.dimension,
        bytes=out.stat().st_size,
        build_id=manifest.build_id,
        embedder=manifest.embedder.digest,
    )


def _schema(gallery: Gallery) -> pa.Schema:
    vector = pa.list_(pa.field("item", pa.float32(), nullable=False), gallery.manifest.dimension)
    columns = {"picture_id": pa.string(), "landmark_id": pa.string(), "sha256": pa.string()}
    fields = [pa.field(name, kind, nullable=False) for name, kind in columns.items()]
    made = gallery.manifest.embedder
    facts = {"build_id": gallery.build_id, "embedder": made.name, "embedder_digest": made.digest}
    facts |= {"runtime": made.runtime, "precision": made.precision}
    return pa.schema([*fields, pa.field("vector", vector, nullable=False)], facts)


def _batches(gallery: Gallery, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    catalog, rows = gallery.catalog, gallery.live_rows()
    ids = pa.array([catalog.landmark_id(code) for code in range(catalog.landmark_count)])
    for begin in range(0, len(rows), _BLOCK_ROWS):
        own = rows[begin : begin + _BLOCK_ROWS]
        columns = [
            _take(catalog.column("picture_id"), own),
            ids.take(catalog.landmarks[own]),
            pa.array([content.hex() for content in catalog.column("sha256").take(own).to_pylist()]),
            pa.FixedSizeListArray.from_arrays(
                pa.array(gallery.vectors(own).reshape(-1)), type=schema.field("vector").type
            ),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _take(column: pa.ChunkedArray, rows: NDArray[np.int64]) -> pa.Array:
    return column.take(rows).combine_chunks()
