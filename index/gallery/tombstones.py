"""Tombstones: what was removed from a gallery and stays out of its rebuilds.

``removed.npz`` holds ``rows``, removed or replaced, that the gallery's files still have; the
ids ``pictures`` and ``landmarks``; and the sources that each stays out of: ``picture_sources`` and
``landmark_sources``, a row for each id and a column for each source. A removal concerns the
sources of its time. One that is added later brings its own pictures, and one that is added again
brings back its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedder.artifacts.arrays import read_npz, write_npz
from embedder.errors import ArtifactDamagedError
from index.gallery.catalog import Catalog
from index.gallery.manifest import GalleryManifest
from photographs import PhotographList

TOMBSTONES = "removed.npz"

SourcesOfIds = Mapping[str, frozenset[int]]
"""The sources that each id stays out of, as indices into the manifest's ``sources``."""


@dataclass(frozen=True, slots=True, eq=False)
class Tombstones:
    """Removed pictures and landmarks.

    Attributes:
        pictures: Ids of pictures.
        landmarks: Ids of landmarks, all of whose pictures are removed.
        rows: ``(m,)`` int64 ascending, the dead rows that a gallery still has.
    """

    pictures: SourcesOfIds = field(default_factory=dict)
    landmarks: SourcesOfIds = field(default_factory=dict)
    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __bool__(self) -> bool:
        return bool(self.pictures or self.landmarks)

    def covers(
        self, source: int, photographs: PhotographList, prefix: str = ""
    ) -> NDArray[np.bool_]:
        """Tell of each photograph of a source, ``(n,)``, whether it is removed.

        ``prefix`` stands before their ids in the gallery.
        """
        pictures, landmarks = (
            [one for one, sources in ids.items() if source in sources]
            for ids in (self.pictures, self.landmarks)
        )
        pictures = [one.removeprefix(prefix) for one in pictures if one.startswith(prefix)]
        labels = [n for n, one in enumerate(photographs.landmarks) if one in set(landmarks)]
        return np.isin(photographs.labels, labels) | photographs.among(
            pa.array(pictures, pa.string())
        )

    def with_more(
        self, pictures: Iterable[str], landmarks: Iterable[str], catalog: Catalog, sources: int
    ) -> Tombstones:
        """Return these and more, with the rows of a catalog of so many sources that they cover."""
        everywhere = frozenset(range(sources))
        more = [dict.fromkeys(ids, everywhere) for ids in (pictures, landmarks)]
        codes = list(catalog.landmarks_of_ids(more[1]).values())
        covered = np.isin(catalog.landmarks, codes) | catalog.has_pictures(more[0])
        covered[self.rows] = True
        rows = np.flatnonzero(covered)
        return Tombstones({**self.pictures, **more[0]}, {**self.landmarks, **more[1]}, rows)

    def without_source(self, source: int) -> Tombstones:
        """Return what stays out of the other sources."""
        pictures, landmarks = (
            {one: rest for one, sources in ids.items() if (rest := sources - {source})}
            for ids in (self.pictures, self.landmarks)
        )
        return replace(self, pictures=pictures, landmarks=landmarks)

    def renamed(self, source: int, before: str, after: str) -> Tombstones:
        """Return the tombstones once the pictures of a source have another prefix."""
        own = [one for one, sources in self.pictures.items() if source in sources]
        if before == after or not own:
            return self
        pictures = dict(self.without_source(source).pictures)
        for one in own:
            name = after + one.removeprefix(before)
            pictures[name] = pictures.get(name, frozenset()) | {source}
        return replace(self, pictures=pictures)

    def renumbered(self, sources: Sequence[int]) -> Tombstones:
        """Return what stays out of some of the sources, which get the numbers from 0."""
        numbers = {source: number for number, source in enumerate(sources)}
        pictures, landmarks = (
            {one: frozenset(numbers[n] for n in of if n in numbers) for one, of in ids.items()}
            for ids in (self.pictures, self.landmarks)
        )
        return replace(self, pictures=pictures, landmarks=landmarks)

    def with_rows(self, rows: NDArray[np.int64]) -> Tombstones:
        """Return the same tombstones in a gallery whose dead rows are these."""
        return replace(self, rows=rows.astype(np.int64))


def write_tombstones(directory: Path, tombstones: Tombstones) -> None:
    """Write :data:`TOMBSTONES` into ``directory``; equal ones make equal files."""
    write_npz(
        directory / TOMBSTONES,
        rows=tombstones.rows,
        **_arrays_of(tombstones.pictures, "picture"),
        **_arrays_of(tombstones.landmarks, "landmark"),
    )


def _arrays_of(ids: SourcesOfIds, what: str) -> dict[str, NDArray[Any]]:
    names = sorted(ids)
    count = max((max(sources) + 1 for sources in ids.values()), default=0)
    table = np.zeros((len(names), count), np.bool_)
    for place, name in enumerate(names):
        table[place, list(ids[name])] = True
    return {f"{what}s": np.array(names, np.str_), f"{what}_sources": table}


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
        rows = arrays["rows"]
        pictures, landmarks = (
            _sources_of(arrays, what, len(manifest.sources)) for what in ("picture", "landmark")
        )
    except KeyError as error:
        raise ArtifactDamagedError(path, f"it lacks {error}") from error
    except ValueError as error:
        raise ArtifactDamagedError(path, "its sources do not fit its ids") from error
    if rows.dtype != np.int64 or rows.ndim != 1 or len(rows) != manifest.removed:
        raise ArtifactDamagedError(path, f"it does not list {manifest.removed} rows")
    if len(rows) and (rows[0] < 0 or rows[-1] >= manifest.rows or (np.diff(rows) <= 0).any()):
        raise ArtifactDamagedError(path, "its rows are out of order or out of range")
    if len(rows) == manifest.rows:
        raise ArtifactDamagedError(path, "no row of the gallery is left")
    return Tombstones(pictures, landmarks, rows)


def _sources_of(arrays: Mapping[str, NDArray[Any]], what: str, sources: int) -> SourcesOfIds:
    """Return the ids of an open file; those of earlier versions stay out of all sources."""
    names = arrays[f"{what}s"].tolist()
    table = arrays.get(f"{what}_sources", np.ones((len(names), sources), np.bool_))
    return {
        name: frozenset(np.flatnonzero(row).tolist())
        for name, row in zip(names, table, strict=True)
    }
