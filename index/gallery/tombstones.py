"""What was taken out of a gallery and stays out: a decision that outlives the lists.

``removed.npz`` holds three arrays: ``rows``, the rows of this gallery that are there and must
not be found (tombstones, sorted), and the ids, ``pictures`` and ``landmarks``, that a later
rebuild leaves out for good although its lists may still name them. Naming a picture or a
landmark again in ``add`` brings it back; so does a ``build`` from nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.arrays import read_npz, write_npz
from embedder.errors import ArtifactDamagedError
from index.gallery.catalog import Catalog
from index.gallery.manifest import GalleryManifest
from photographs import Photograph

REMOVED = "removed.npz"


@dataclass(frozen=True, slots=True)
class Removed:
    """Ids that are not wanted in a gallery.

    Attributes:
        pictures: Of pictures.
        landmarks: Of landmarks, no picture of which is wanted.
    """

    pictures: frozenset[str] = field(default_factory=frozenset)
    landmarks: frozenset[str] = field(default_factory=frozenset)

    def __bool__(self) -> bool:
        return bool(self.pictures or self.landmarks)

    def holds(self, picture_id: str, landmark_id: str | None) -> bool:
        """Tell whether a picture is unwanted."""
        return picture_id in self.pictures or landmark_id in self.landmarks

    def with_more(self, pictures: Iterable[str], landmarks: Iterable[str]) -> Removed:
        """Return these and more."""
        return Removed(self.pictures.union(pictures), self.landmarks.union(landmarks))

    def without(self, photographs: Sequence[Photograph]) -> Removed:
        """Return what is left after ``photographs`` were asked for again."""
        return Removed(
            self.pictures.difference(photograph.id for photograph in photographs),
            self.landmarks.difference(photograph.landmark_id or "" for photograph in photographs),
        )

    def rows(self, catalog: Catalog) -> list[int]:
        """Return the rows of a catalog that are unwanted, ascending."""
        codes = catalog.landmarks.tolist()
        ids = [catalog.landmark_id(code) for code in range(catalog.landmark_count)]
        pictures = catalog.column("picture_id")
        pairs = enumerate(zip(pictures, codes, strict=True))
        return [row for row, (picture, code) in pairs if self.holds(picture, ids[code])]


def write_removed(directory: Path, removed: Removed, rows: Sequence[int]) -> None:
    """Write :data:`REMOVED` into ``directory``; equal removals make equal files."""
    write_npz(
        directory / REMOVED,
        rows=np.array(rows, np.int64),
        pictures=np.array(sorted(removed.pictures), np.str_),
        landmarks=np.array(sorted(removed.landmarks), np.str_),
    )


def read_removed(directory: Path) -> Removed:
    """Read what was removed from the gallery in ``directory``: nothing, where no file says so.

    Raises:
        ArtifactDamagedError: The file is not such a file.
    """
    path = directory / REMOVED
    if not path.exists():
        return Removed()
    arrays = read_npz(path)
    try:
        ids = [frozenset(map(str, arrays[name].tolist())) for name in ("pictures", "landmarks")]
    except KeyError as error:
        raise ArtifactDamagedError(path, f"it lacks {error}") from error
    return Removed(*ids)


def read_rows(directory: Path, manifest: GalleryManifest) -> NDArray[np.int64]:
    """Read the removed rows of a gallery."""
    if not manifest.removed:
        return np.empty(0, np.int64)
    path = directory / REMOVED
    rows = read_npz(path).get("rows", np.empty(0))
    if rows.dtype != np.int64 or rows.ndim != 1 or len(rows) != manifest.removed:
        raise ArtifactDamagedError(path, f"it does not list {manifest.removed} rows")
    if len(rows) and (rows[0] < 0 or rows[-1] >= manifest.rows or (np.diff(rows) <= 0).any()):
        raise ArtifactDamagedError(path, "its rows are out of order or out of range")
    if len(rows) == manifest.rows:
        raise ArtifactDamagedError(path, "no row of the gallery is left")
    return rows
