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
from numpy.typing import NDArray

from embedder.picture_files import find_file, open_file
from index.building.pipeline import ReadPicture, cut, progress_bar, reader_count
from index.building.sources import Sources
from index.building.unreadable import ReportLine
from index.gallery.gallery import Gallery
from photographs import PhotographList

_NEW = -1
_BLOCK_PICTURES = 4096


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Where the vector of each photograph of a gallery comes from.

    Attributes:
        sources: The ``n`` photographs.
        gallery: The published gallery, made by the same embedder; ``None`` where nothing of it
            is used.
        rows: ``(n,)`` int64, the row of each photograph in ``gallery``; -1 where it is embedded.
        pictures: The file of each photograph that has a row, as it is now; else ``None``.
        unreadable: Unreadable pictures that are known already and not among ``sources``.
    """

    sources: Sources
    gallery: Gallery | None
    rows: NDArray[np.int64]
    pictures: Sequence[ReadPicture | None]
    unreadable: Sequence[ReportLine] = ()

    @classmethod
    def read_all(cls, sources: Sources, gallery: Gallery | None = None) -> RowPlan:
        """Plan to read every picture; those with a content that ``gallery`` has keep its vector."""
        return cls(sources, gallery, np.full(len(sources), _NEW), [None] * len(sources))

    def new(self) -> PhotographList:
        """Return the photographs without a row, in order."""
        return self.sources.photographs.where(self.rows == _NEW)

    def is_unchanged(self) -> bool:
        """Tell whether the rows are those of the gallery, all of them and nothing else."""
        if self.gallery is None or len(self.rows) != len(self.gallery.catalog):
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
    row_of = {picture_id: row for row, picture_id in enumerate(catalog.column("picture_id"))}
    contents, sizes, times = (catalog.column(name) for name in ("sha256", "bytes", "mtime_ns"))
    rows = np.full(len(sources), _NEW)
    pictures: list[ReadPicture | None] = [None] * len(sources)
    to_hash = []
    for place, photograph in enumerate(photographs):
        if (row := row_of.get(photograph.id)) is None:
            continue
        size, time = sizes[row], times[row]
        if sources.origins[place] not in trusted:
            size, time = find_file(photograph.path)
        if size != sizes[row]:
            continue
        rows[place], pictures[place] = row, ReadPicture(contents[row], size, time)
        if by_content or time != times[row]:
            to_hash.append(place)
    hashes = _hash_files([photographs[place].path for place in to_hash], reader_count(readers))
    for place, sha256 in zip(to_hash, hashes, strict=True):
        if sha256 != contents[rows[place]]:
            rows[place], pictures[place] = _NEW, None
    return RowPlan(sources, gallery, rows, pictures)


def _hash_files(paths: Sequence[Path], readers: int) -> Iterator[bytes]:
    """Yield the SHA-256 of each file; no bytes for one that cannot be read."""
    if not paths:
        return
    with (
        ThreadPoolExecutor(readers, "reader") as pool,
        progress_bar(len(paths), what="compare") as bar,
    ):
        for block in cut(paths, _BLOCK_PICTURES):
            yield from pool.map(_hash_file, block)
            bar.update(len(block))


def _hash_file(path: Path) -> bytes:
    try:
        with open_file(path) as picture:
            return picture.sha256()
    except OSError:
        return b""
