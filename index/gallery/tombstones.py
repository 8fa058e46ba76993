"""Tombstones: what was removed from a gallery and stays out of its rebuilds.

``removed.npz`` holds ``rows``, removed rows that the gallery's files still have (ascending), and
the ids ``pictures`` and ``landmarks``, which a rebuild leaves out for good although its lists may
name them. Adding a picture or landmark again brings it back; so does a build from nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.arrays import read_npz, write_npz
from embedder.errors import ArtifactDamagedError
from index.gallery.catalog import Catalog
from index.gallery.manifest import GalleryManifest
from photographs import Photograph

TOMBSTONES = "removed.npz"


@dataclass(frozen=True, slots=True, eq=False)
class Tombstones:
    """Removed pictures and landmarks.

    Attributes:
        pictures: Ids of pictures.
        landmarks: Ids of landmarks, all of whose pictures are removed.
        rows: ``(m,)`` int64 ascending, the removed rows that a gallery still has.
    """

    pictures: frozenset[str] = frozenset()
    landmarks: frozenset[str] = frozenset()
    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __bool__(self) -> bool:
        return bool(self.pictures or self.landmarks)

    def covers(self, picture_id: str, landmark_id: str | None) -> bool:
        """Tell whether a picture is removed."""
        return picture_id in self.pictures or landmark_id in self.landmarks

    def with_more(
        self, pictures: Iterable[str], landmarks: Iterable[str], catalog: Catalog
    ) -> Tombstones:
        """Return these and more, with the rows of a catalog that they cover."""
        more = Tombstones(self.pictures.union(pictures), self.landmarks.union(landmarks))
        codes = list(catalog.landmarks_of_ids(more.landmarks).values())
        covered = np.isin(catalog.landmarks, codes) | catalog.has_pictures(more.pictures)
        return replace(more, rows=np.flatnonzero(covered).astype(np.int64))

    def without(self, photographs: Iterable[Photograph] = ()) -> Tombstones:
        """Return the ids that remain when ``photographs`` are added again; no rows."""
        pictures, landmarks = set(self.pictures), set(self.landmarks)
        for photograph in photographs if self else ():
            pictures.discard(photograph.id)
            landmarks.discard(photograph.landmark_id or "")
        return Tombstones(frozenset(pictures), frozenset(landmarks))


def write_tombstones(directory: Path, tombstones: Tombstones) -> None:
    """Write :data:`TOMBSTONES` into ``directory``; equal ones make equal files."""
    write_npz(
        directory / TOMBSTONES,
        rows=tombstones.rows,
        pictures=np.array(sorted(tombstones.pictures), np.str_),
        landmarks=np.array(sorted(tombstones.landmarks), np.str_),
    )


def read_tombstones(directory: Path, manifest: GalleryManifest) -> Tombstones:
    """Read the tombstones of the gallery in ``directory``; none where it has no such file.

    Raises:
        ArtifactMissingError: The manifest counts removed rows, and the file does not exist.
        ArtifactDamagedError: The file does not fit the manifest.
    """
    if not manifest.removed and TOMBSTONES not in manifest.files:
        return Tombstones()
    path = directory / TOMBSTONES
    arrays = read_npz(path)
    try:
        rows, pictures, landmarks = (arrays[name] for name in ("rows", "pictures", "landmarks"))
    except KeyError as error:
        raise ArtifactDamagedError(path, f"it lacks {error}") from error
    if rows.dtype != np.int64 or rows.ndim != 1 or len(rows) != manifest.removed:
        raise ArtifactDamagedError(path, f"it does not list {manifest.removed} rows")
    if len(rows) and (rows[0] < 0 or rows[-1] >= manifest.rows or (np.diff(rows) <= 0).any()):
        raise ArtifactDamagedError(path, "its rows are out of order or out of range")
    if len(rows) == manifest.rows:
        raise ArtifactDamagedError(path, "no row of the gallery is left")
    return Tombstones(frozenset(pictures.tolist()), frozenset(landmarks.tolist()), rows)
