"""Verify a build: every byte, every count, and a sample of its vectors."""

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from embedder.errors import ArtifactDamagedError
from index.building.embedded import EmbeddedBatch
from index.building.pipeline import DEFAULT_OPTIONS
from index.building.publish import check_every_byte
from index.building.query_vectors import embed_paths
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.store import Store
from index.maintenance.defaults import SAMPLE_PICTURES

SAME_COSINE = 0.995
"""Lowest cosine of a picture that is embedded again to its stored vector.

Another precision or device stays above it; another network, or the vector of another row, is far
below.
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verified:
    """Result of a verification.

    Attributes:
        build_id: The build.
        rows: Number of its vectors.
        removed: Number of its tombstones.
        files: Number of files that were read to the last byte.
        sample: Number of pictures that were embedded again and agreed.
        worst_cosine: Lowest cosine of them to their stored vector; ``None`` where none was
            embedded.
        changed: Number of pictures of the sample that have changed since, or cannot be read; a
            rebuild follows them.
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
    sample: int = SAMPLE_PICTURES,
) -> Verified:
    """Read every byte of a build, count its rows, and embed some of its pictures again.

    Nothing is changed, and writers are not blocked.

    Args:
        store: The store.
        embedder: The one that made the build; ``None`` embeds nothing.
        build_id: By default the published build.
        sample: Number of pictures to embed again.

    Raises:
        NoGalleryError: Nothing is published.
        ArtifactMissingError: The build, or a file of it, is missing.
        ArtifactDamagedError: A file was altered, or a vector does not belong to its picture.
        ArtifactMismatchError: Another embedder made it, or its files contradict each other.
    """
    digest = None if embedder is None else embedder.digest
    with closing(Gallery.open(store.path, embedder_digest=digest, build=build_id)) as gallery:
        check_every_byte(gallery)
        cosines, changed = np.empty(0, np.float32), 0
        if embedder is not None:
            cosines, changed = _embed_again(gallery, embedder, _draw(gallery, sample))
        if changed:
            _log.warning("%d pictures of the sample have changed or are gone; rebuild", changed)
        return Verified(
            build_id=gallery.build_id,
            rows=gallery.manifest.rows,
            removed=len(gallery.tombstones.rows),
            files=len(gallery.manifest.files),
            sample=len(cosines),
            worst_cosine=float(cosines.min()) if len(cosines) else None,
            changed=changed,
        )


def _draw(gallery: Gallery, sample: int) -> NDArray[np.int64]:
    """Draw rows without tombstones; always the same ones of a build."""
    live = gallery.live_rows()
    rng = np.random.default_rng(gallery.manifest.rows)
    return np.sort(rng.choice(live, min(sample, len(live)), replace=False))


def _embed_again(
    gallery: Gallery, embedder: Embedder, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], int]:
    """Return the cosine of each unchanged picture to its stored vector, and how many changed."""
    roots = [Path(source.data) for source in gallery.manifest.sources]
    stored = [gallery.catalog.row(int(row)) for row in rows]
    paths = [roots[row.source] / row.path for row in stored]
    options = DEFAULT_OPTIONS.within(gallery.manifest.limits)
    batch = EmbeddedBatch.join(embed_paths(paths, embedder, "embed again", options))
    same = [n for n in batch.usable() if batch.pictures[n].sha256 == stored[n].sha256]
    cosines = np.einsum("nd,nd->n", batch.vectors[same], gallery.vectors(rows[same]))
    if same and not cosines.min() >= SAME_COSINE:
        worst = int(cosines.argmin())
        who = f"the vector of {stored[same[worst]].picture_id}"
        reason = f"{who} has a cosine of {cosines[worst]:.4f} to that of its picture"
        raise ArtifactDamagedError(gallery.directory / VECTORS, reason)
    return cosines, len(rows) - len(same)
