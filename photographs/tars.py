"""Pictures in tars: which there are, and where in them, from the headers alone.

The members of a tar are found once, by going from header to header, and kept as an Arrow file in
``.members/`` beside the tars. It is made anew when a tar's size or modification time has changed.
Where that folder cannot be written, the headers are read by every command.
"""

import json
import logging
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from embedder.artifacts.files import write_atomic
from embedder.errors import CatalogError
from embedder.formats.opening import format_of_suffix, read_formats
from embedder.picture_files import member_path
from embedder.text import normal_form
from photographs.passed_over import (
    HOUSEKEEPING,
    NOT_TEXT,
    NOTHING,
    PassedOver,
    is_housekeeping,
    is_text,
    printable,
)
from photographs.photograph_list import join_strings

MEMBERS = ".members"
"""Folder of the tables."""

_SCHEMA = pa.schema([(name, pa.string()) for name in ("key", "file", "label", "kind")])
_VERSION = "2"
_LABEL_BYTES = 1 << 16
"""Larger members are not read as labels."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """The pictures in the tars of a folder.

    Attributes:
        keys: ``(n,)`` strings, the names in the tars up to the first dot of their last part.
        files: ``(n,)`` strings, their paths relative to the folder, as
            :func:`embedder.picture_files.member_path` makes them.
        labels: ``(n,)`` strings, the landmarks that other members of the same key name, or null.
        passed_over: Other members that may be pictures.
    """

    keys: pa.StringArray
    files: pa.StringArray
    labels: pa.StringArray
    passed_over: PassedOver = NOTHING


def read_members(folder: Path) -> Members:
    """Find the pictures in the tars that lie in a folder, if any does.

    Raises:
        CatalogError: A tar cannot be read.
    """
    tars = sorted(filter(Path.is_file, folder.glob("*.tar")))
    tables = {tar: _read_table(tar) for tar in tars}
    if missing := [tar for tar in tars if tables[tar] is None]:
        from tqdm import tqdm  # only here: a service reads no tars

        for tar in tqdm(missing, desc=f"read the headers of {folder.name}", unit="tar"):
            tables[tar] = _make_table(tar)
    table = pa.concat_tables([_SCHEMA.empty_table(), *tables.values()]).combine_chunks()
    keys, files, labels, kinds = (join_strings(table[name].chunks) for name in _SCHEMA.names)
    read = pc.is_in(kinds, value_set=pa.array(read_formats()))
    if pc.all(read).as_py() is not False:
        return Members(keys, files, labels)
    others = zip(
        *(column.filter(pc.invert(read)).to_pylist() for column in (files, kinds)), strict=True
    )
    keys, files, labels = (column.filter(read) for column in (keys, files, labels))
    return Members(keys, files, labels, PassedOver(tuple(others)))


def _read_table(tar: Path) -> pa.Table | None:
    """Read the table of a tar, unless it is missing, or not of the tar as it is now."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(_table_path(tar)))).read_all()
    except (OSError, pa.ArrowException):
        return None
    return table if table.schema.equals(_schema_of(tar), check_metadata=True) else None


def _make_table(tar: Path) -> pa.Table:
    schema = _schema_of(tar)
    try:
        with tarfile.open(tar, "r:") as archive:
            columns = list(zip(*_list_members(archive, tar.name), strict=True)) or [()] * 4
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CatalogError(tar, f"it is no tar that can be read: {error}") from error
    arrays = [pa.array(column, pa.string()) for column in columns]
    table = pa.Table.from_arrays(arrays, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(table)
    try:
        _table_path(tar).parent.mkdir(exist_ok=True)
        write_atomic(_table_path(tar), sink.getvalue().to_pybytes())
    except OSError as error:
        _log.warning("the table of %s cannot be kept: %s", tar, error.strerror)
    return table


def _list_members(archive: tarfile.TarFile, tar: str) -> Iterator[tuple[str | None, ...]]:
    """Yield key, path, label and kind of each picture; kinds as :class:`PassedOver` has them."""
    labels: dict[str, str] = {}
    pictures: list[tuple[str, str, str]] = []
    for member in archive:
        if not member.isreg() or member.issparse():
            continue
        name = normal_form(member.name.removeprefix("./"))
        key, extension = _cut(name)
        if kind := _kind_of(name, extension):
            header = member.offset_data - tarfile.BLOCKSIZE
            pictures.append((printable(key), member_path(tar, header, printable(name)), kind))
        elif extension in {"cls", "json"} and member.size <= _LABEL_BYTES:
            content = archive.extractfile(member)
            if content is not None and (label := _read_label(content.read(), extension)):
                labels[key] = label
    return ((key, file, labels.get(key), kind) for key, file, kind in pictures)


def _kind_of(name: str, extension: str) -> str:
    """Return the format of a picture, or why it is passed over; empty for no picture."""
    kind = format_of_suffix(f".{extension}")
    if not kind:
        return ""
    if any(map(is_housekeeping, PurePosixPath(name).parts[:-1])):
        return HOUSEKEEPING
    return kind if is_text(name) else NOT_TEXT


def _cut(name: str) -> tuple[str, str]:
    """Cut a name at the first dot of its last part, as WebDataset does.

    >>> _cut("a.b/0001.seg.png")
    ('a.b/0001', 'seg.png')
    """
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition(".")
    return name.removesuffix(path.name) + stem, extension.lower()


def _read_label(data: bytes, extension: str) -> str | None:
    """Read the landmark from a ``.cls``, which is text, or a ``.json``."""
    try:
        text = data.decode()
        found = json.loads(text) if extension == "json" else text
    except ValueError:
        return None
    if isinstance(found, dict):
        found = found.get("landmark_id", found.get("label"))
    is_label = isinstance(found, str | int) and not isinstance(found, bool)
    return normal_form(str(found).strip()) or None if is_label else None


def _schema_of(tar: Path) -> pa.Schema:
    """Return the schema of the table of a tar, which says of which tar it is."""
    status = tar.stat()
    facts = {"version": _VERSION, "bytes": str(status.st_size), "mtime": str(status.st_mtime_ns)}
    return _SCHEMA.with_metadata(facts)


def _table_path(tar: Path) -> Path:
    return tar.parent / MEMBERS / f"{tar.stem}.arrow"
