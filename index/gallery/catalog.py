"""What each row of a gallery is: picture, landmark, file, content. Arrow files, mapped.

Two files: ``catalog.arrow`` with one row for each vector, and ``landmarks.arrow`` with one row
for each landmark. A landmark's row number there is its *code*. Codes follow
:func:`photographs.landmark_order` and rows are sorted by code, then picture id, so that
of two rows the smaller number has the smaller landmark id, then the smaller picture id.
This module knows no vectors.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedder.errors import ArtifactDamagedError
from index.gallery.arrow import map_table, new_arrow
from photographs import landmark_order, search_form

CATALOG = "catalog.arrow"
LANDMARKS = "landmarks.arrow"


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


ROWS = _schema(
    picture_id=pa.string(),
    landmark=pa.int32(),
    path=pa.string(),
    sha256=pa.binary(32),
    bytes=pa.int64(),
    mtime_ns=pa.int64(),
    source=pa.int16(),
)
NAMES = _schema(landmark_id=pa.string(), name=pa.string())
NAMES_2 = NAMES.append(pa.field("search_form", pa.string(), nullable=False)).append(
    pa.field("link", pa.string())
)
"""Version 2 of the names: with the form that they are searched in, and the address of a page
about the landmark, or null."""

_BATCH_ROWS = 1 << 16
_NO_LINKS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One picture of a gallery.

    Attributes:
        picture_id: Unique in the gallery.
        landmark_id: Its landmark.
        path: Its file, relative to the data folder of its source where it lies below it.
        sha256: Digest of the file's content, 32 bytes.
        bytes: Size of the file.
        mtime_ns: When the file was last changed, in nanoseconds since 1970.
        source: Its list, as an index into the manifest's ``sources``.
    """

    picture_id: str
    landmark_id: str
    path: str
    sha256: bytes
    bytes: int
    mtime_ns: int
    source: int = 0


class Catalog:
    """An open catalog.

    Attributes:
        landmarks: ``(rows,)`` int32, the landmark code of each row, ascending.
    """

    def __init__(self, rows: pa.Table, names: pa.Table) -> None:
        self._rows = rows
        self._names = names
        self._by_id: NDArray[np.uint32] | None = None
        self._sorting = threading.Lock()
        self.landmarks: NDArray[np.int32] = rows["landmark"].to_numpy()

    @classmethod
    def open(cls, directory: Path) -> Catalog:
        """Map the catalog in ``directory``; a damaged or missing file is an ``ArtifactError``."""
        rows = map_table(directory / CATALOG, ROWS)
        names = map_table(directory / LANDMARKS, NAMES, NAMES_2)
        if names.schema.names == NAMES.names:
            ids, texts = (names[name].to_pylist() for name in NAMES.names)
            names = _name_table(ids, texts, {})
        catalog = cls(rows, names)
        codes = catalog.landmarks
        if codes.size and (codes[0] < 0 or codes[-1] >= len(names) or (np.diff(codes) < 0).any()):
            raise ArtifactDamagedError(directory / CATALOG, "its landmark codes are out of order")
        return catalog

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def landmark_count(self) -> int:
        """How many landmarks the gallery shows."""
        return len(self._names)

    def landmark_id(self, landmark: int) -> str:
        """Return the id of the landmark with the code ``landmark``."""
        return str(self._names["landmark_id"][landmark].as_py())

    def name(self, landmark: int) -> str:
        """Return the name, for people, of the landmark with the code ``landmark``."""
        return str(self._names["name"][landmark].as_py())

    def link(self, landmark: int) -> str | None:
        """Return the address of a page about the landmark with the code ``landmark``."""
        link: str | None = self._names["link"][landmark].as_py()
        return link

    def landmarks_of_ids(self, landmark_ids: Collection[str]) -> dict[str, int]:
        """Return the codes of landmarks by id, of those that the gallery has."""
        wanted = pa.array(landmark_ids, pa.string())
        found = pc.is_in(self._names["landmark_id"], value_set=wanted).to_numpy()
        return {self.landmark_id(code): code for code in np.flatnonzero(found).tolist()}

    def search_names(self, text: str) -> NDArray[np.int64]:
        """Find the landmarks whose name holds a text, without regard to case and accents.

        Returns:
            ``(m,)`` codes: first those whose name begins with it, in order, then the others.
        """
        places = pc.find_substring(self._names["search_form"], search_form(text)).to_numpy()
        return np.concatenate([np.flatnonzero(places == 0), np.flatnonzero(places > 0)])

    def picture_id(self, row: int) -> str:
        """Return the id of the picture in ``row``."""
        return str(self._rows["picture_id"][row].as_py())

    def row(self, row: int) -> CatalogRow:
        """Return the whole ``row``."""
        values: dict[str, Any] = {name: self._rows[name][row].as_py() for name in ROWS.names}
        return CatalogRow(landmark_id=self.landmark_id(values.pop("landmark")), **values)

    def column(self, name: str) -> list[Any]:
        """Return one column of :data:`ROWS`, row by row."""
        values: list[Any] = self._rows[name].to_pylist()
        return values

    def row_of_picture(self, picture_id: str) -> int | None:
        """Return the row of a picture, or ``None`` where the gallery has none of this id.

        Rows are sorted by landmark first, so the first call sorts them by picture and keeps that
        order, 4 bytes a row; later calls bisect it.
        """
        order = self._order_of_ids()
        place = bisect_left(order, picture_id, key=lambda row: self.picture_id(int(row)))
        if place == len(order) or self.picture_id(int(order[place])) != picture_id:
            return None
        return int(order[place])

    def find_picture(self, picture_id: str) -> int | None:
        """Return what :meth:`row_of_picture` does, by comparing every id, without sorting any.

        For a process that looks up few of them.
        """
        row: int = pc.index(self._rows["picture_id"], picture_id).as_py()
        return None if row < 0 else row

    def _order_of_ids(self) -> NDArray[np.uint32]:
        with self._sorting:
            if self._by_id is None:
                order = pc.sort_indices(self._rows["picture_id"])
                self._by_id = order.to_numpy().astype(np.uint32)
            return self._by_id

    def rows_of_pictures(self, picture_ids: Sequence[str], source: int) -> list[int | None]:
        """Find the rows of pictures; ``None`` for one that does not come from ``source``."""
        rows = pc.index_in(pa.array(picture_ids, pa.string()), value_set=self._rows["picture_id"])
        same = pc.equal(self._rows["source"].take(rows), source)
        found: list[int | None] = pc.if_else(same, rows, None).to_pylist()
        return found

    def rows_of_content(self, contents: Collection[bytes]) -> NDArray[np.int64]:
        """Find the rows, ascending, of files whose SHA-256 is among ``contents``, 32 bytes each."""
        wanted = pa.array(sorted(contents), pa.binary(32))
        same = pc.is_in(self._rows["sha256"], value_set=wanted)
        return np.flatnonzero(same.to_numpy(zero_copy_only=False))


def _name_table(ids: list[str], names: list[str], links: Mapping[str, str]) -> pa.Table:
    # one long text is brought into this form sooner than many short ones
    forms = search_form("\0".join(name.replace("\0", " ") for name in names)).split("\0")
    return pa.table([ids, names, forms, [links.get(one) for one in ids]], schema=NAMES_2)


class CatalogWriter:
    """Writes a catalog row by row, in order; landmarks get their codes as they come.

    Args:
        directory: Where the two files are written.
        names: Of the landmarks, by id; one without a name gets its id.
        links: Addresses of pages about landmarks, likewise; one may have none.
    """

    def __init__(
        self, directory: Path, names: Mapping[str, str], links: Mapping[str, str] = _NO_LINKS
    ) -> None:
        self._directory = directory
        self._names = names
        self._links = links
        self._landmark_ids: list[str] = []
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._last: tuple[Any, str] | None = None
        self._writer = new_arrow(directory / CATALOG, ROWS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
                ids = self._landmark_ids
                names = [self._names.get(landmark_id, landmark_id) for landmark_id in ids]
                with new_arrow(self._directory / LANDMARKS, NAMES_2, version=2) as writer:
                    writer.write_table(_name_table(ids, names, self._links))
        finally:
            self._writer.close()

    def add(self, rows: Sequence[CatalogRow]) -> None:
        """Append ``rows``; ``ValueError`` if they do not ascend by landmark, then picture id."""
        codes = [self._code(row) for row in rows]
        columns = [
            codes if field.name == "landmark" else [getattr(row, field.name) for row in rows]
            for field in ROWS
        ]
        arrays = [pa.array(column, f.type) for column, f in zip(columns, ROWS, strict=True)]
        self._waiting.append(pa.record_batch(arrays, schema=ROWS))
        self._waiting_rows += len(rows)
        if self._waiting_rows >= _BATCH_ROWS:
            self._flush()

    @property
    def landmark_count(self) -> int:
        """How many landmarks there are so far."""
        return len(self._landmark_ids)

    def _code(self, row: CatalogRow) -> int:
        place = (landmark_order(row.landmark_id), row.picture_id)
        if self._last is not None and place <= self._last:
            raise ValueError(f"picture {row.picture_id} is out of order")
        if self._last is None or place[0] != self._last[0]:
            self._landmark_ids.append(row.landmark_id)
        self._last = place
        return len(self._landmark_ids) - 1

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting).combine_chunks())
        self._waiting, self._waiting_rows = [], 0
