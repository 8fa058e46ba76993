"""Author, license, title and address of each picture of a gallery. One Arrow file, mapped.

``credits.arrow`` has the fields of :class:`photographs.Credit` as columns and a row for each row
of the catalog; a gallery without any credit has no such file. Authors and licenses repeat, so
they are dictionary-encoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from embedder.artifacts.files import FileRecord, RecordedFile
from embedder.errors import ArtifactDamagedError
from index.gallery.arrow import map_table, new_arrow
from index.gallery.catalog import Catalog
from photographs import Credit

CREDITS = "credits.arrow"

_REPEATED = pa.dictionary(pa.int32(), pa.string())
_SCHEMA = pa.schema(
    {"author": _REPEATED, "license": _REPEATED, "title": pa.string(), "url": pa.string()}
)
_FOUND = pa.schema([("row", pa.int64()), *((name, pa.string()) for name in Credit._fields)])
_BLOCK_PICTURES = 1 << 16

PictureCredits = Iterable[tuple[str, Credit]]
"""Picture ids with their credits."""


class Credits:
    """Open credits."""

    def __init__(self, table: pa.Table) -> None:
        self._columns = [table[name] for name in Credit._fields]

    @classmethod
    def open(cls, directory: Path, *, rows: int) -> Credits:
        """Map the credits in ``directory``, of a gallery of ``rows``; raises as :func:`map_table`.

        ``ArtifactDamagedError`` too if there is another number of rows.
        """
        table = map_table(directory / CREDITS, _SCHEMA)
        if len(table) != rows:
            raise ArtifactDamagedError(directory / CREDITS, f"{len(table)} credits for {rows} rows")
        return cls(table)

    def __getitem__(self, row: int) -> Credit | None:
        """Return the credit of a row, or ``None``; ``IndexError`` where there is no such row."""
        credit = Credit(*(column[row].as_py() for column in self._columns))
        return credit if any(credit) else None


def write_credits(directory: Path, sources: Sequence[PictureCredits]) -> dict[str, FileRecord]:
    """Write the credits of a gallery whose catalog is written, if there are any.

    ``sources`` has the credits of each source, in their order; perhaps of other pictures too.

    Returns:
        The record of the file by its name; nothing where there are no credits.

    Raises:
        CatalogError: A source is faulty.
    """
    catalog = Catalog.open(directory)
    blocks = [
        block for place, found in enumerate(sources) for block in _find(catalog, place, found)
    ]
    table = pa.Table.from_batches(blocks, _FOUND)
    if not len(table):
        return {}
    places = np.full(len(catalog), -1)
    places[table["row"].to_numpy()] = np.arange(len(table))
    aligned = table.drop_columns("row").take(pa.array(places, mask=places < 0)).combine_chunks()
    file = RecordedFile(directory / CREDITS)
    with file, new_arrow(file, _SCHEMA) as writer:
        writer.write_table(aligned.cast(_SCHEMA))
    return {CREDITS: file.record()}


def _find(
    catalog: Catalog, source: int, picture_credits: PictureCredits
) -> Iterator[pa.RecordBatch]:
    left = iter(picture_credits)
    while block := list(islice(left, _BLOCK_PICTURES)):
        rows = catalog.rows_of_pictures([picture_id for picture_id, _ in block], source)
        kept = [
            {"row": row, **credit._asdict()}
            for row, (_, credit) in zip(rows, block, strict=True)
            if row is not None and any(credit)
        ]
        yield pa.RecordBatch.from_pylist(kept, _FOUND)
