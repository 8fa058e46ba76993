"""Compare the answers of a gallery with the exact ones, before it is published.

The queries are pictures of the gallery itself, each asked as if it were not there: what a
photograph of a known landmark is to the service. The exact answers come from a matrix product,
which owes nothing to the search that is judged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.errors import GalleryError
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest, Recall, write_manifest

LADDER = (500, 1000, 2000, 4000, 8000, 16000)
"""How many candidates of a first look are tried, until the answers are good enough."""

_QUERIES, _COMPARISONS = 1000, 10**8
_CLASS_AGREEMENT, _COSINE_GAP = 0.9995, 0.005
_ROUNDING = 2e-6  # a matrix product and FAISS add up in another order

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answers:
    """The nearest row of each query, and its similarity; both ``(n,)``."""

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]


def prove(
    directory: Path,
    manifest: GalleryManifest,
    *,
    min_recall: float | None = None,
    ladder: Sequence[int] = LADDER,
) -> GalleryManifest:
    """Measure a new gallery, and choose how many candidates get its second look.

    Where there is a first look, the number of candidates climbs a ladder until the
    landmarks agree with the exact ones and the similarities come close.

    Args:
        directory: The gallery, none of whose rows is removed yet.
        manifest: What is in the directory; written anew with what was found.
        min_recall: The lowest recall@1 that is accepted, in [0, 1].
        ladder: The numbers of candidates to try, ascending.

    Returns:
        The manifest with its ``k_factor`` and ``recall``.

    Raises:
        GalleryError: The recall is lower than ``min_recall``.
        ArtifactError: The gallery does not open.
    """
    two_looks = manifest.kind != "exact"
    held_out = _held_out(manifest, two_looks=two_looks)
    truth: Answers | None = None
    for k_factor in ladder if two_looks else (None,):
        manifest = manifest.model_copy(update={"k_factor": k_factor})
        write_manifest(directory, manifest)
        gallery = Gallery.open_directory(directory, embedder_digest=manifest.embedder.digest)
        if not held_out.size:  # a single row has no other to be compared with
            return manifest
        truth = truth or exact_answers(gallery.blocks(), gallery.vectors(held_out), but=held_out)
        recall = compare(_answers(gallery, held_out), truth, gallery.catalog.landmarks)
        gallery.close()
        if recall.class_agreement >= _CLASS_AGREEMENT and recall.worst_cosine_gap <= _COSINE_GAP:
            break
    manifest = manifest.model_copy(update={"recall": recall})
    write_manifest(directory, manifest)
    _log.info("%s: %s", manifest.factory, recall.model_dump_json())
    if min_recall is not None and recall.recall_at_1 < min_recall:
        raise GalleryError(
            f"recall@1 of {manifest.factory} is {recall.recall_at_1:.4f}, below the stated floor "
            f"of {min_recall}; what was published is unchanged"
        )
    return manifest


def exact_answers(
    blocks: Iterable[NDArray[np.float32]],
    queries: NDArray[np.float32],
    *,
    but: NDArray[np.int64] | None = None,
) -> Answers:
    """Find the nearest row of each query by a matrix product in float32.

    Args:
        blocks: ``(b, d)`` unit rows each, in their order.
        queries: ``(n, d)`` unit rows.
        but: ``(n,)``, a row for each query that is not an answer to it.
    """
    asked = np.arange(len(queries))
    rows = np.full(len(queries), -1, np.int64)
    best = np.full(len(queries), -np.inf, np.float32)
    start = 0
    for block in blocks:
        similarities = queries @ block.T
        if but is not None:
            own = np.flatnonzero((but >= start) & (but < start + len(block)))
            similarities[own, but[own] - start] = -np.inf
        first = similarities.argmax(axis=1)
        found = similarities[asked, first]
        nearer = found > best
        rows[nearer], best[nearer] = first[nearer] + start, found[nearer]
        start += len(block)
    return Answers(rows, best.clip(-1.0, 1.0))


def compare(found: Answers, truth: Answers, landmarks: NDArray[np.int32]) -> Recall:
    """Compare answers with the exact ones.

    Args:
        found: What a gallery answered.
        truth: The exact answers to the same queries.
        landmarks: ``(rows,)``, the landmark of each row of the gallery.
    """
    gaps = truth.similarities - found.similarities
    same = (found.rows == truth.rows) | (gaps <= _ROUNDING)
    return Recall(
        queries=len(gaps),
        recall_at_1=float(same.mean()),
        class_agreement=float((same | (landmarks[found.rows] == landmarks[truth.rows])).mean()),
        worst_cosine_gap=round(float(np.where(same, 0.0, gaps).max()), 6),
    )


def _held_out(manifest: GalleryManifest, *, two_looks: bool) -> NDArray[np.int64]:
    """Draw the rows that are asked; few where FAISS has to compare every vector with each."""
    most = _QUERIES if two_looks else max(10, min(_QUERIES, _COMPARISONS // manifest.rows))
    if manifest.rows < 2:
        return np.empty(0, np.int64)
    drawn = np.random.default_rng(0).choice(manifest.rows, min(most, manifest.rows), replace=False)
    return np.sort(drawn).astype(np.int64)


def _answers(gallery: Gallery, held_out: NDArray[np.int64]) -> Answers:
    """Ask the gallery for the nearest row of each held-out one that is not itself."""
    found = gallery.search(gallery.vectors(held_out), 2)
    itself = found.rows[:, 0] == held_out
    place = itself.astype(np.int64)[:, None]
    return Answers(
        np.take_along_axis(found.rows, place, axis=1)[:, 0],
        np.take_along_axis(found.similarities, place, axis=1)[:, 0],
    )
