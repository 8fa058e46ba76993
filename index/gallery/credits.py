"""Author, license, title and address of each picture of a gallery. Arrow files, mapped.

``credits.arrow`` has the fields of :class:`photographs.Credit` as columns and a row for each row
of the catalog; a segment without any credit has no such file. Authors and licenses repeat, so
they are dictionary-encoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedder.artifacts.files import FileRecord, RecordedFile
from embedder.errors import ArtifactDamagedError
from index.gallery.arrow import map_table, new_arrow
from index.gallery.catalog import Catalog
from photographs import CREDIT_COLUMNS, Credit

CREDITS = "credits.arrow"

_SCHEMA = CREDIT_COLUMNS.remove(0)
_PLAIN = pa.schema([(name, pa.string()) for name in _SCHEMA.names])


class Credits:
    """Open credits.

    Attributes:
        table: The columns of ``CREDIT_COLUMNS`` but for the ids.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._columns = [table[name] for name in Credit._fields]

    @classmethod
    def open(cls, segments: Mapping[Path, int]) -> Credits | None:
        """Map the credits of segments, their folders with their rows; ``None`` where none has any.

        Raises as :func:`map_table`; ``ArtifactDamagedError`` too if there is another number of
        rows.
        """
        if not any((directory / CREDITS).is_file() for directory in segments):
            return None
        return cls(pa.concat_tables([_open(*segment) for segment in segments.items()]))

    def __getitem__(self, row: int) -> Credit | None:
        """Return the credit of a row, or ``None``; ``IndexError`` where there is no such row."""
        credit = Credit(*(column[row].as_py() for column in self._columns))
        return credit if any(credit) else None


def _open(directory: Path, rows: int) -> pa.Table:
    path = directory / CREDITS
    if not path.is_file():
        return pa.table([pa.nulls(rows, column.type) for column in _SCHEMA], schema=_SCHEMA)
    table = map_table(path, _SCHEMA).replace_schema_metadata(None)
    if len(table) != rows:
        raise ArtifactDamagedError(path, f"{len(table)} credits for {rows} rows")
    return table


def write_credits(directory: Path, sources: Sequence[pa.Table]) -> dict[str, FileRecord]:
    """Write the credits of a segment whose catalog is written, if there are any.

    ``sources`` has the credits of each source, tables of ``CREDIT_COLUMNS``, in their order;
    perhaps of other pictures too.

    Returns:
        The record of the file by its name; nothing where there are no credits.
    """
    catalog = Catalog.open(directory)
    aligned = _align(catalog.column("picture_id"), catalog.numbers("source"), sources)
    if all(column.null_count == len(column) for column in aligned.columns):
        return {}
    file = RecordedFile(directory / CREDITS)
    with file, new_arrow(file, _SCHEMA) as writer:
        writer.write_table(aligned.cast(_SCHEMA))  # with the words in the order of the rows
    return {CREDITS: file.record()}


def same_credits(
    stored: Credits | None,
    catalog: Catalog,
    sources: Sequence[pa.Table],
    rows: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Tell of each of ``rows``, ``(m,)``, whether its stored credit is that of its source."""
    ids, origins = catalog.column("picture_id").take(rows), catalog.numbers("source")[rows]
    told = _align(ids, origins, sources)
    known = told.slice(0, 0) if stored is None else stored.table.take(rows).cast(_PLAIN)
    same = np.ones(len(rows), np.bool_)
    for name in _PLAIN.names:
        one = pc.fill_null(told[name], "")
        other = pc.fill_null(known[name], "") if stored else pa.array([""] * len(rows), pa.string())
        same &= pc.equal(one, other).to_numpy()
    return same


def _align(
    ids: pa.ChunkedArray, origins: NDArray[np.int64], sources: Sequence[pa.Table]
) -> pa.Table:
    """Return the credit of each picture, nulls where it has none."""
    places, before = np.full(len(ids), -1), 0
    for source, told in enumerate(sources):
        found = pc.index_in(ids, value_set=told["id"]).fill_null(-1).to_numpy()
        own = (origins == source) & (found >= 0)
        places[own] = before + found[own]
        before += len(told)
    joined = pa.concat_tables([told.select(_PLAIN.names).cast(_PLAIN) for told in sources])
    return joined.take(pa.array(places, mask=places < 0)).combine_chunks()
