"""What each row of a gallery is: picture, landmark, file, content. Arrow files, mapped.

A segment has two files: ``catalog.arrow`` with one row for each vector, and ``landmarks.arrow``
with one row for each landmark. A landmark's row number there is its code in the segment. Codes
follow :func:`photographs.landmark_order` and rows are sorted by code, then picture id.

A gallery's rows are those of its segments, one behind the other. Landmarks get new codes, in the
same order, where segments have different ones; the name of a landmark is that of the last segment
that lists it. This module knows no vectors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedder.artifacts.files import FileRecord, RecordedFile
from embedder.errors import ArtifactDamagedError
from index.gallery.arrow import map_table, new_arrow, required
from index.gallery.names import LANDMARKS, join_names, open_names, write_names
from index.search.neighbors import Order
from photographs import landmark_order, search_form

CATALOG = "catalog.arrow"


ROWS = required(
    picture_id=pa.string(),
    landmark=pa.int32(),
    path=pa.string(),
    sha256=pa.binary(32),
    bytes=pa.int64(),
    mtime_ns=pa.int64(),
    source=pa.int16(),
)
_FACTS = [name for name in ROWS.names if name != "landmark"]
BLOCK = pa.schema([ROWS.field(0), pa.field("landmark_id", pa.string()), *list(ROWS)[2:]])
"""What a catalog is written from: :data:`ROWS` with the id of the landmark for its code."""

SIDES: Final = ("left", "right")
"""Where equal values begin and end in a sorted array, for ``searchsorted``."""

_BATCH_ROWS = 1 << 16
_PREFIX_BYTES = 8
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
    """An open catalog of one segment or several.

    Attributes:
        landmarks: ``(rows,)`` int32, the landmark code of each row; ascending in each segment.
    """

    def __init__(self, segments: Sequence[tuple[pa.Table, pa.Table]]) -> None:
        rows, names = zip(*segments, strict=True)
        self._rows, self._begins = pa.concat_tables(rows), np.cumsum([0, *map(len, rows)]).tolist()
        self._names, codes = join_names(names)
        own = [of_one["landmark"].to_numpy() for of_one in rows]
        if len(own) > 1:
            own = [of_all[of_one] for of_all, of_one in zip(codes, own, strict=True)]
        self.landmarks: NDArray[np.int32] = own[0] if len(own) == 1 else np.concatenate(own)

    @classmethod
    def open(cls, *segments: Path) -> Catalog:
        """Map the catalog of segments; a damaged or missing file is an ``ArtifactError``."""
        return cls([_open(directory) for directory in segments])

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def landmark_count(self) -> int:
        """How many landmarks its files name; perhaps of removed rows only."""
        return len(self._names)

    @property
    def order(self) -> Order | None:
        """The order of rows by landmark, then picture id; ``None`` where it is their own."""
        return None if len(self._begins) == 2 else self._turns

    def _turns(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return numbers of ``rows``, ``(m,)``, that ascend by landmark, then picture id."""
        found, places = np.unique(rows, return_inverse=True)
        keys = {"landmark": self.landmarks[found], "picture": self._rows["picture_id"].take(found)}
        directions = [(name, "ascending") for name in keys]
        turns = np.empty(len(found), np.int64)
        turns[pc.sort_indices(pa.table(keys), sort_keys=directions)] = np.arange(len(found))
        return turns[places]

    def sort(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sort ``rows``, ``(m,)`` ascending, by landmark, then picture id."""
        if self.order is None:
            return rows
        rows = rows[np.argsort(self.landmarks[rows], kind="stable")]
        shared = np.isin(self.landmarks[rows], self.landmarks[rows[rows >= self._begins[1]]])
        several = rows[shared]  # the others are sorted, as they lie in the first segment
        rows[shared] = several[np.argsort(self._turns(several))]
        return rows

    def rows_of_landmarks(self, landmarks: Sequence[int]) -> NDArray[np.int64]:
        """Return the rows, ascending, of the landmarks with the codes ``landmarks``."""
        wanted = np.unique(np.asarray(landmarks, self.landmarks.dtype))
        found = [np.empty(0, np.int64)]
        for begin, end in pairwise(self._begins):
            own = self.landmarks[begin:end]
            ends = zip(*(np.searchsorted(own, wanted, side) + begin for side in SIDES), strict=True)
            found += [np.arange(*pair) for pair in ends]
        return np.concatenate(found)

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

    def named_landmarks(self) -> Iterator[tuple[str, str, str | None]]:
        """Yield id, name and link of all landmarks, in the order of their codes."""
        columns = (self._names[name].to_pylist() for name in ("landmark_id", "name", "link"))
        return zip(*columns, strict=True)

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
        values: dict[str, Any] = {name: self._rows[name][row].as_py() for name in _FACTS}
        return CatalogRow(landmark_id=self.landmark_id(int(self.landmarks[row])), **values)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of :data:`ROWS`, mapped."""
        return self._rows[name]

    def numbers(self, name: str) -> NDArray[np.int64]:
        """Return a column of numbers."""
        column: NDArray[np.int64] = self._rows[name].to_numpy()
        return column

    def rows_of_picture(self, picture_id: str) -> list[int]:
        """Return the rows of a picture: one at most, beside those that were replaced.

        The first call hashes all ids and keeps 12 bytes for each; later calls bisect these.
        """
        hashes, rows = self._rows_by_hash
        same = slice(*(hashes.searchsorted(hash(picture_id), side) for side in SIDES))
        return [row for row in rows[same].tolist() if self.picture_id(row) == picture_id]

    @cached_property
    def _rows_by_hash(self) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """The hashes of all picture ids, ascending, and their rows.

        To sort the ids themselves takes ten times as long.
        """
        chunks = self._rows["picture_id"].chunks
        hashes = np.fromiter(
            (hash(picture_id) for chunk in chunks for picture_id in chunk.to_pylist()),
            np.int64,
            len(self),
        )
        rows = hashes.argsort()
        return hashes[rows], rows.astype(np.uint32)

    def row_of_content(self, sha256: bytes) -> int | None:
        """Return a row of a file with this SHA-256, or ``None``. Thread-safe.

        The first call sorts the rows by the first bytes of theirs and keeps that, 12 bytes a
        row; later calls bisect it.
        """
        first, rows = self._rows_by_content
        wanted = np.uint64(int.from_bytes(sha256[:_PREFIX_BYTES], "big"))
        same = slice(*(first.searchsorted(wanted, side) for side in SIDES))
        column = self._rows["sha256"]
        found = (row for row in rows[same].tolist() if column[row].as_py() == sha256)
        return next(found, None)

    @cached_property
    def _rows_by_content(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """The first bytes of all SHA-256, ascending, and their rows."""
        first = np.concatenate([_prefixes(chunk) for chunk in self._rows["sha256"].chunks])
        rows = np.argsort(first, kind="stable")
        return first[rows], rows.astype(np.uint32)

    def has_pictures(self, picture_ids: Collection[str]) -> NDArray[np.bool_]:
        """Tell of each row, ``(rows,)``, whether its picture is among ``picture_ids``."""
        wanted = pa.array(sorted(picture_ids), pa.string())
        found: NDArray[np.bool_] = pc.is_in(self._rows["picture_id"], value_set=wanted).to_numpy()
        return found

    def rows_of_content(self, contents: Collection[bytes]) -> NDArray[np.int64]:
        """Find the rows, ascending, of files whose SHA-256 is among ``contents``, 32 bytes each."""
        wanted = pa.array(sorted(contents), pa.binary(32))
        same = pc.is_in(self._rows["sha256"], value_set=wanted)
        return np.flatnonzero(same.to_numpy(zero_copy_only=False))


def _open(directory: Path) -> tuple[pa.Table, pa.Table]:
    """Map the rows and the names of a segment."""
    rows = map_table(directory / CATALOG, ROWS).replace_schema_metadata(None)
    names = open_names(directory)
    codes = rows["landmark"].to_numpy()
    if codes.size and (codes[0] < 0 or codes[-1] >= len(names) or (np.diff(codes) < 0).any()):
        raise ArtifactDamagedError(directory / CATALOG, "its landmark codes are out of order")
    return rows, names


def _prefixes(contents: pa.FixedSizeBinaryArray) -> NDArray[np.uint64]:
    """Return the first bytes of each digest, as numbers of the same order."""
    width, begin = contents.type.byte_width, contents.offset
    data = np.frombuffer(contents.buffers()[1], np.uint8)
    digests = data[begin * width : (begin + len(contents)) * width].reshape(-1, width)
    return np.ascontiguousarray(digests[:, :_PREFIX_BYTES]).view(">u8").ravel().astype(np.uint64)


class CatalogWriter:
    """Writes a catalog block by block, in order; landmarks get their codes as they come.

    Args:
        directory: Where the two files are written.
        names: Of the landmarks, by id; one without a name gets its id.
        links: Addresses of pages about landmarks, likewise; one may have none.
        others: Landmarks without a row here that are named anew.

    Attributes:
        records: Of the two files, by name, once they are written.
    """

    def __init__(
        self,
        directory: Path,
        names: Mapping[str, str],
        links: Mapping[str, str] = _NO_LINKS,
        others: Collection[str] = (),
    ) -> None:
        self._directory = directory
        self._names = names
        self._links = links
        self._others = others
        self._landmark_ids: list[str] = []
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._last_picture = ""
        self._file = RecordedFile(directory / CATALOG)
        self._writer = new_arrow(self._file, ROWS)
        self.records: dict[str, FileRecord] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
                ids = [*self._landmark_ids, *self._others]
                self.records[LANDMARKS] = write_names(
                    self._directory, ids, self._names, self._links
                )
        finally:
            self._writer.close()
            self._file.close()
        self.records[CATALOG] = self._file.record()

    def add(self, rows: Sequence[CatalogRow]) -> None:
        """Append ``rows`` as :meth:`add_block` does."""
        columns = {name: [getattr(row, name) for row in rows] for name in BLOCK.names}
        self.add_block(pa.record_batch(columns, schema=BLOCK))

    def add_block(self, block: pa.RecordBatch) -> None:
        """Append a block of :data:`BLOCK`.

        Raises:
            ValueError: Its rows do not ascend by landmark, then picture id.
        """
        if not len(block):
            return
        codes = self._code(block["picture_id"], block["landmark_id"])
        columns = {name: block[name] for name in _FACTS}
        self._waiting.append(
            pa.record_batch({**columns, "landmark": pa.array(codes, pa.int32())}).select(ROWS.names)
        )
        self._waiting_rows += len(block)
        if self._waiting_rows >= _BATCH_ROWS:
            self._flush()

    @property
    def landmark_count(self) -> int:
        """How many landmarks there are so far."""
        return len(self._landmark_ids)

    def _code(self, pictures: pa.StringArray, landmarks: pa.StringArray) -> NDArray[np.int32]:
        """Return the landmark code of each row, after comparing it with the row before."""
        before = self._landmark_ids[-1] if self._landmark_ids else None
        last = pa.concat_arrays([pa.array([before], pa.string()), landmarks[:-1]])
        begins = pc.fill_null(pc.not_equal(landmarks, last), True).to_numpy(zero_copy_only=False)  # noqa: FBT003 (Arrow's own)
        last = pa.concat_arrays([pa.array([self._last_picture], pa.string()), pictures[:-1]])
        ascends = pc.greater(pictures, last).to_numpy(zero_copy_only=False)
        if not (begins | ascends).all():
            row = int(np.flatnonzero(~(begins | ascends))[0])
            raise ValueError(f"picture {pictures[row]} is out of order")
        codes = np.cumsum(begins) + len(self._landmark_ids) - 1
        for row in np.flatnonzero(begins).tolist():
            self._begin_landmark(landmarks[row].as_py(), pictures[row].as_py())
        self._last_picture = pictures[-1].as_py()
        return codes.astype(np.int32)

    def _begin_landmark(self, landmark_id: str, picture_id: str) -> None:
        if self._landmark_ids:
            last = landmark_order(self._landmark_ids[-1])
            if landmark_order(landmark_id) <= last:
                raise ValueError(f"picture {picture_id} is out of order")
        self._landmark_ids.append(landmark_id)

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting).combine_chunks()
            self._writer.write_table(table.cast(ROWS))
        self._waiting, self._waiting_rows = [], 0
