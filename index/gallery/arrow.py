"""Arrow files of a gallery: written with a version, mapped when they are read."""

from pathlib import Path

import pyarrow as pa

from embedder.artifacts.documents import VERSION, check_version
from embedder.artifacts.files import RecordedFile
from embedder.errors import ArtifactDamagedError, ArtifactMissingError


def required(**columns: pa.DataType) -> pa.Schema:
    """Return a schema of columns that have a value in every row."""
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def new_arrow(
    file: RecordedFile, schema: pa.Schema, *, version: int = 1
) -> pa.ipc.RecordBatchFileWriter:
    """Open an Arrow file for writing.

    The version of its layout stands in the metadata of its schema.

    Raises:
        OSError: The file cannot be written.
    """
    return pa.ipc.new_file(file, schema.with_metadata({VERSION: str(version)}))


def map_arrow(path: Path, *schemas: pa.Schema) -> pa.ipc.RecordBatchFileReader:
    """Map an Arrow file.

    Args:
        path: The file.
        *schemas: That of version 1, and those of all later versions. A file without a version
            has version 1.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactDamagedError: It is not an Arrow file of these columns.
        ArtifactMismatchError: It has a newer version; the number is named.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
    except FileNotFoundError as error:
        raise ArtifactMissingError(path) from error
    except (pa.ArrowException, OSError) as error:
        raise ArtifactDamagedError(path, "it is not an Arrow file") from error
    text = (reader.schema.metadata or {}).get(VERSION.encode(), b"1").decode()
    version = int(text) if text.isdecimal() else 0
    check_version(path, version or text, newest=len(schemas))
    if not reader.schema.equals(schemas[version - 1]):
        raise ArtifactDamagedError(path, "its columns are not the expected ones")
    return reader


def map_table(path: Path, *schemas: pa.Schema) -> pa.Table:
    """Map a whole Arrow file as a table; raises as :func:`map_arrow`."""
    reader = map_arrow(path, *schemas)
    try:
        return reader.read_all()
    except (pa.ArrowException, OSError) as error:
        raise ArtifactDamagedError(path, "it is not an Arrow file") from error
