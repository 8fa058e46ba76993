"""Prove a build: every byte, every count, and a sample of its vectors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from embedder.artifacts.files import check_blocks
from embedder.embedder import Embedder
from embedder.errors import ArtifactDamagedError
from index.building.pipeline import BATCH_PICTURES, ReadPicture, embed_files
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.store import Store
from index.gallery.tombstones import read_removed

SAMPLE = 64
"""Pictures that are embedded once more, unless another number is asked for."""

SAME_COSINE = 0.995
"""A picture that is embedded again must come this near to its stored vector.

Another precision or device may have made it; another network, or another row's vector, stays
far below.
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verified:
    """What was proved of a build.

    Attributes:
        build_id: The build.
        rows: How many vectors it has.
        removed: How many of them are removed.
        files: How many files were read to the last byte.
        sample: How many pictures were embedded again and agreed.
        worst_cosine: The least that one of them came near to its stored vector; ``None`` where
            none was embedded.
        changed: How many of the sample have changed since, or cannot be read: a rebuild's
            business.
    """

    build_id: str
    rows: int
    removed: int
    files: int
    sample: int
    worst_cosine: float | None
    changed: int


def verify(
    store: Store,
    embedder: Embedder | None = None,
    *,
    build_id: str | None = None,
    sample: int = SAMPLE,
) -> Verified:
    """Read every byte of a build, count its rows, and embed some of its pictures again.

    Nothing is changed, and writers are not held up.

    Args:
        store: The store.
        embedder: The one that made the build; ``None`` embeds nothing.
        build_id: By default the published build.
        sample: How many pictures are embedded again.

    Raises:
        NoGalleryError: Nothing is published.
        ArtifactMissingError: The build, or a file of it, is not there.
        ArtifactDamagedError: A file was altered, or a vector is not its picture's.
        ArtifactMismatchError: Another embedder made it, or its files contradict each other.
    """
    digest = None if embedder is None else embedder.digest
    with closing(Gallery.open(store.path, embedder_digest=digest, build=build_id)) as gallery:
        _read_every_byte(gallery)
        removed = read_removed(gallery.directory).rows(gallery.catalog)
        cosines, changed = np.empty(0, np.float32), 0
        if embedder is not None:
            cosines, changed = _embed_again(gallery, embedder, _draw(gallery, removed, sample))
        if changed:
            _log.warning(
                "%d of the pictures looked at have changed or are gone; rebuild to follow", changed
            )
        return Verified(
            build_id=gallery.build_id,
            rows=gallery.manifest.rows,
            removed=len(removed),
            files=len(gallery.manifest.files),
            sample=len(cosines),
            worst_cosine=float(cosines.min()) if len(cosines) else None,
            changed=changed,
        )


def _read_every_byte(gallery: Gallery) -> None:
    files = gallery.manifest.files
    total = sum(expected.bytes for expected in files.values())
    with tqdm(total=total, desc="read", unit="B", unit_scale=True, file=sys.stderr) as bar:
        before = 0
        for name, expected in files.items():
            for done in check_blocks(gallery.directory / name, expected):
                bar.update(before + done - bar.n)
            before += expected.bytes


def _draw(gallery: Gallery, removed: Sequence[int], sample: int) -> NDArray[np.int64]:
    """Draw rows that are not removed: always the same ones of a build."""
    live = np.setdiff1d(np.arange(gallery.manifest.rows), np.array(removed, np.int64))
    chance = np.random.default_rng(gallery.manifest.rows)
    return np.sort(chance.choice(live, min(sample, len(live)), replace=False))


def _embed_again(
    gallery: Gallery, embedder: Embedder, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], int]:
    """Return the cosine of each picture to its stored vector, and how many have changed."""
    roots = [Path(source.data) for source in gallery.manifest.sources]
    held = [gallery.catalog.row(int(row)) for row in rows]
    paths = [roots[row.source] / row.path for row in held]
    batches = (paths[cut : cut + BATCH_PICTURES] for cut in range(0, len(paths), BATCH_PICTURES))
    same, vectors = list[int](), list[NDArray[np.float32]]()
    pictures: list[ReadPicture] = []
    for batch in embed_files(batches, embedder):
        for picture, vector in zip(batch.pictures, batch.vectors, strict=True):
            if picture.usable and picture.sha256 == held[len(pictures)].sha256:
                same.append(len(pictures))
                vectors.append(vector)
            pictures.append(picture)
    if not same:
        return np.empty(0, np.float32), len(rows)
    cosines = np.einsum("nd,nd->n", np.stack(vectors), gallery.vectors(rows[same]))
    worst = int(cosines.argmin())
    if not cosines[worst] >= SAME_COSINE:
        raise ArtifactDamagedError(
            gallery.directory / VECTORS,
            f"the vector of {held[same[worst]].picture_id} has a cosine of {cosines[worst]:.4f} "
            "to that of its picture",
        )
    return cosines, len(rows) - len(same)
