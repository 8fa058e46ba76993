"""Author, license, title and address of each picture of a gallery. One Arrow file, mapped.

``credits.arrow`` has the fields of :class:`photographs.Credit` as columns and a row for each row
of the catalog; a gallery without any credit has no such file. Authors and licenses repeat, so
they are dictionary-encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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


def write_credits(directory: Path, sources: Sequence[pa.Table]) -> dict[str, FileRecord]:
    """Write the credits of a gallery whose catalog is written, if there are any.

    ``sources`` has the credits of each source, tables of ``CREDIT_COLUMNS``, in their order;
    perhaps of other pictures too.

    Returns:
        The record of the file by its name; nothing where there are no credits.
    """
    catalog = Catalog.open(directory)
    ids, origins = catalog.column("picture_id"), catalog.numbers("source")
    places, before = np.full(len(catalog), -1), 0
    for source, told in enumerate(sources):
        found = pc.index_in(ids, value_set=told["id"]).fill_null(-1).to_numpy()
        own = (origins == source) & (found >= 0)
        places[own] = before + found[own]
        before += len(told)
    joined = pa.concat_tables([told.select(_PLAIN.names).cast(_PLAIN) for told in sources])
    aligned = joined.take(pa.array(places, mask=places < 0)).combine_chunks()
    if all(column.null_count == len(column) for column in aligned.columns):
        return {}
    file = RecordedFile(directory / CREDITS)
    with file, new_arrow(file, _SCHEMA) as writer:
        writer.write_table(aligned.cast(_SCHEMA))  # with the words in the order of the rows
    return {CREDITS: file.record()}
