"""Arrays in memory and on disk: unit rows, and npz files without pickle."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.documents import VERSION, check_version
from embedder.artifacts.files import write_atomic
from embedder.errors import ArtifactDamagedError, ArtifactMissingError

_NPZ_FAULTS = (
    OSError,
    ValueError,
    TypeError,  # a plain npy
    KeyError,
    EOFError,
    MemoryError,  # a header that promises more than there is
    NotImplementedError,  # a compression that zipfile does not know
    zipfile.BadZipFile,
    zlib.error,
)


def unit_rows(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Scale each row to length 1.

    Args:
        rows: ``(n, d)``, any finite values.

    Returns:
        ``(n, d)`` float32; a row of zeros stays zeros.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


NPZ_VERSION = 1
"""Version of all npz files that are written; it stands in them as the array ``schema_version``."""


def write_npz(path: Path, **arrays: NDArray[Any]) -> None:
    """Write ``arrays`` to ``path`` atomically and with the same bytes for the same arrays."""
    buffer = io.BytesIO()
    version = {VERSION: np.array(NPZ_VERSION)}
    np.savez_compressed(buffer, allow_pickle=False, **arrays, **version)
    write_atomic(path, buffer.getvalue())


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read every array of an npz file but its version; pickled members are refused.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactDamagedError: It is not an npz of plain arrays.
        ArtifactMismatchError: It has a newer version; the number is named.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise ArtifactMissingError(path) from error
    except _NPZ_FAULTS as error:
        raise ArtifactDamagedError(path, "it is not an npz file of plain arrays") from error
    version = arrays.pop(VERSION, np.array(1))  # files of before had none
    check_version(path, version.tolist(), newest=NPZ_VERSION)
    return arrays
