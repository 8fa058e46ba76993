"""Which rows of a gallery are taken over from the published one, and which are embedded.

A picture is unchanged if its file has the size and modification time that the gallery recorded,
or else the same content.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedder.picture_files import open_file
from index.building.pipeline import BLOCK_PICTURES, cut, find_files, reader_count
from index.building.sources import Sources
from index.building.unreadable import LeftOut
from index.gallery.credits import same_credits
from index.gallery.gallery import Gallery
from index.progress import progress_bar
from photographs import PhotographList

_NEW = -1


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Where the vector of each photograph of a gallery comes from.

    Attributes:
        sources: The ``n`` photographs.
        gallery: The published gallery, made by the same embedder; ``None`` where nothing of it
            is used.
        rows: ``(n,)`` int64, the row of each photograph in ``gallery``; -1 where it is embedded.
        times: ``(n,)`` int64, the modification time of each that has a row, as it is now.
        stays: ``(n,)``, whether the row in ``gallery`` is all that it would be in the next one.
        unreadable: Unreadable pictures that are known already and not among ``sources``.
    """

    sources: Sources
    gallery: Gallery | None
    rows: NDArray[np.int64]
    times: NDArray[np.int64]
    stays: NDArray[np.bool_]
    unreadable: Sequence[LeftOut] = ()

    @classmethod
    def read_all(cls, sources: Sources, gallery: Gallery | None = None) -> RowPlan:
        """Plan to read every picture; those with a content that ``gallery`` has keep its vector."""
        rows = np.full(len(sources), _NEW, np.int64)
        return cls(sources, gallery, rows, rows, rows != _NEW)

    def new(self) -> PhotographList:
        """Return the photographs without a row, in order."""
        return self.sources.photographs.where(self.rows == _NEW)

    def is_unchanged(self) -> bool:
        """Tell whether the rows are those of a gallery of one segment, all and nothing else."""
        if self.gallery is None or len(self.rows) != len(self.gallery.catalog):
            return False
        if self.gallery.manifest.segments:
            return False
        return bool((self.rows == np.arange(len(self.rows))).all())


def plan_changes(
    gallery: Gallery,
    sources: Sources,
    *,
    by_content: bool = False,
    trusted: Collection[int] = (),
    readers: int = 0,
) -> RowPlan:
    """Plan to read only pictures that are new or have changed.

    Args:
        gallery: Made by the embedder of the next build.
        sources: The photographs.
        by_content: Hash every file, whatever its size and modification time.
        trusted: Indices of the sources whose files are not looked at.
        readers: Threads that read; 0 for one per core.
    """
    catalog, photographs = gallery.catalog, sources.photographs
    rows = _find_rows(gallery, photographs.ids)
    sizes, times = (catalog.numbers(name)[rows] for name in ("bytes", "mtime_ns"))
    look = np.flatnonzero((rows != _NEW) & ~np.isin(sources.origins, list(trusted)))
    now = _states(photographs.take(look), readers)
    rows[look[now[:, 0] != sizes[look]]] = _NEW
    recorded = times.copy()
    times[look] = now[:, 1]
    doubtful = rows != _NEW if by_content else (rows != _NEW) & (times != recorded)
    to_hash = np.flatnonzero(doubtful)
    contents = catalog.column("sha256").take(rows[to_hash]).to_pylist()
    hashes = hash_files(photographs.take(to_hash), reader_count(readers))
    for place, content, sha256 in zip(to_hash.tolist(), contents, hashes, strict=True):
        if sha256 != content:
            rows[place] = _NEW
    stays = rows != _NEW
    look = look[stays[look]]
    stays[look] = (times == recorded)[look] & _same_facts(gallery, sources, look, rows[look])
    return RowPlan(sources, gallery, rows, times, stays)


def _find_rows(gallery: Gallery, picture_ids: pa.StringArray) -> NDArray[np.int64]:
    """Return the live row of each picture; -1 where there is none."""
    stored, live = gallery.catalog.column("picture_id"), gallery.live_rows()
    if len(live) < len(stored):
        stored = stored.take(live)
    found = pc.fill_null(pc.index_in(picture_ids, value_set=stored), _NEW).to_numpy()
    rows: NDArray[np.int64] = np.append(live, _NEW)[found]
    return rows


def _same_facts(
    gallery: Gallery, sources: Sources, places: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Compare landmark, list, path and credit of photographs with those of their rows."""
    catalog, photographs = gallery.catalog, sources.photographs.take(places)
    codes = catalog.landmarks_of_ids(photographs.landmarks)
    labels = np.array([codes.get(one, _NEW) for one in photographs.landmarks], np.int32)
    same = labels[photographs.labels] == catalog.landmarks[rows]
    origins = sources.origins[places]
    same &= origins == catalog.numbers("source")[rows]
    paths = relative_paths(photographs.paths(), origins, sources)
    same &= pc.equal(paths, catalog.column("path").take(rows).combine_chunks()).to_numpy(
        zero_copy_only=False
    )
    told = sources.credits(origins)
    found: NDArray[np.bool_] = same & same_credits(gallery.credits, catalog, told, rows)
    return found


def relative_paths(
    paths: pa.StringArray, origins: NDArray[np.int32], sources: Sources
) -> pa.StringArray:
    """Make paths relative to the folders of their sources, where they lie below them."""
    for origin in np.unique(origins).tolist():
        prefix = f"{sources.members[origin].root}/"
        below = pc.and_(pc.starts_with(paths, prefix), pa.array(origins == origin))
        shorter = pc.utf8_slice_codeunits(paths, len(prefix))
        paths = pc.if_else(below, shorter, paths)
    return paths


def _states(photographs: PhotographList, readers: int) -> NDArray[np.int64]:
    """Return size and modification time of each file, ``(n, 2)``."""
    states = np.empty((len(photographs), 2), np.int64)
    begin = 0
    with progress_bar(len(photographs), what="look for changes") as bar:
        for paths, found in find_files(photographs, readers):
            states[begin : begin + len(paths)] = found
            begin += len(paths)
            bar.update(len(paths))
    return states


def hash_files(photographs: PhotographList, readers: int) -> Iterator[bytes]:
    """Yield the SHA-256 of each file; no bytes for one that cannot be read."""
    if not photographs:
        return
    with (
        ThreadPoolExecutor(readers, "reader") as pool,
        progress_bar(len(photographs), what="compare") as bar,
    ):
        for block in cut(photographs, BLOCK_PICTURES):
            yield from pool.map(_hash_file, [photograph.path for photograph in block])
            bar.update(len(block))


def _hash_file(path: Path) -> bytes:
    try:
        with open_file(path) as picture:
            return picture.sha256()
    except OSError:
        return b""
