"""Which photographs need not be embedded again: those that a gallery holds and nobody changed.

A picture is taken for unchanged if its file has the size and the time of last change that the
gallery has seen; otherwise, or if that is not to be believed, if it has the same content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.building.pipeline import Known, ReadPicture, find_file, progress_bar, reader_count
from index.building.sources import Wanted
from index.gallery.gallery import Gallery

_NEW = -1
_BLOCK_PICTURES = 4096


@dataclass(frozen=True, slots=True)
class Reuse:
    """What is taken over from a gallery.

    Attributes:
        gallery: The gallery; ``None`` where nothing is taken over.
        rows: ``(n,)`` int64, for each wanted photograph its row there, -1 where it is new or
            changed.
        pictures: The file of each photograph that has a row, as it is now, else ``None``.
    """

    gallery: Gallery | None
    rows: NDArray[np.int64]
    pictures: Sequence[ReadPicture | None]

    def new(self) -> NDArray[np.int64]:
        """Return the places of the photographs that are not taken over, ascending."""
        return np.flatnonzero(self.rows == _NEW)

    def is_whole(self) -> bool:
        """Tell whether every row of the gallery is taken over as it is, and nothing is new."""
        if self.gallery is None or len(self.rows) != len(self.gallery.catalog):
            return False
        return bool((self.rows == np.arange(len(self.rows))).all())


def known_contents(gallery: Gallery) -> Known:
    """Return a finder of the vectors of a gallery by the content of their pictures."""
    rows = {content: row for row, content in enumerate(gallery.catalog.column("sha256"))}

    def find(sha256: bytes) -> NDArray[np.float32] | None:
        row = rows.get(sha256)
        return None if row is None else gallery.vectors(np.array([row]))[0]

    return find


def reuse_nothing(wanted: Wanted) -> Reuse:
    """Return that every photograph is new."""
    return Reuse(None, np.full(len(wanted), _NEW), [None] * len(wanted))


def read_again(gallery: Gallery, wanted: Wanted) -> Reuse:
    """Return that every photograph is to be read: what has a vector there is not embedded."""
    return replace(reuse_nothing(wanted), gallery=gallery)


def find_unchanged(
    gallery: Gallery,
    wanted: Wanted,
    *,
    by_content: bool = False,
    trusted: Collection[int] = (),
    readers: int = 0,
) -> Reuse:
    """Find the photographs whose vectors a gallery has.

    Args:
        gallery: Made by the embedder that would embed them.
        wanted: The photographs.
        by_content: Read every file, and do not believe its size and time.
        trusted: Sources whose files are not looked at.
        readers: Threads that read; 0 for one per core.
    """
    catalog = gallery.catalog
    held = {picture_id: row for row, picture_id in enumerate(catalog.column("picture_id"))}
    contents, sizes, times = (catalog.column(name) for name in ("sha256", "bytes", "mtime_ns"))
    rows = np.full(len(wanted), _NEW)
    pictures: list[ReadPicture | None] = [None] * len(wanted)
    doubtful = []
    for place, photograph in enumerate(wanted.photographs):
        if (row := held.get(photograph.id)) is None:
            continue
        size, time = sizes[row], times[row]
        if wanted.origins[place] not in trusted:
            size, time = find_file(photograph.path)
        if size != sizes[row]:
            continue
        rows[place], pictures[place] = row, ReadPicture(contents[row], size, time)
        if by_content or time != times[row]:
            doubtful.append(place)
    paths = [wanted.photographs[place].path for place in doubtful]
    for place, sha256 in zip(doubtful, _contents(paths, reader_count(readers)), strict=True):
        if sha256 != contents[rows[place]]:
            rows[place], pictures[place] = _NEW, None
    return Reuse(gallery, rows, pictures)


def _contents(paths: Sequence[Path], readers: int) -> Iterator[bytes]:
    """Yield the SHA-256 of each file; nothing of one that cannot be read."""
    if not paths:
        return
    with (
        ThreadPoolExecutor(readers, "reader") as pool,
        progress_bar(len(paths), what="compare") as bar,
    ):
        for begin in range(0, len(paths), _BLOCK_PICTURES):
            yield from pool.map(_content, paths[begin : begin + _BLOCK_PICTURES])
            bar.update(len(paths[begin : begin + _BLOCK_PICTURES]))


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""
