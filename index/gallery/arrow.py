"""Arrow files of a gallery and of its builds: written with a version, mapped when they are read."""

from pathlib import Path

import pyarrow as pa

from embedder.artifacts.documents import VERSION, check_version
from embedder.errors import ArtifactDamagedError, ArtifactMissingError

ARROW_VERSION = 1
"""Layout of the Arrow files, in the metadata of their schemas; a file without one has version 1."""


def new_arrow(path: Path | pa.NativeFile, schema: pa.Schema) -> pa.ipc.RecordBatchFileWriter:
    """Open an Arrow file, or an output stream of Arrow, for writing.

    Raises:
        OSError: The file cannot be written.
    """
    sink = str(path) if isinstance(path, Path) else path
    return pa.ipc.new_file(sink, schema.with_metadata({VERSION: str(ARROW_VERSION)}))


def map_arrow(path: Path, schema: pa.Schema) -> pa.ipc.RecordBatchFileReader:
    """Map an Arrow file.

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
    version = (reader.schema.metadata or {}).get(VERSION.encode(), b"1").decode()
    check_version(path, int(version) if version.isdecimal() else version, newest=ARROW_VERSION)
    if not reader.schema.equals(schema):
        raise ArtifactDamagedError(path, "its columns are not the expected ones")
    return reader


def map_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Map a whole Arrow file as a table; raises as :func:`map_arrow`."""
    reader = map_arrow(path, schema)
    try:
        return reader.read_all()
    except (pa.ArrowException, OSError) as error:
        raise ArtifactDamagedError(path, "it is not an Arrow file") from error
