"""Compare the answers of a gallery with the exact ones before it is published.

The queries are pictures of the gallery itself, each searched as if it were not there: what a
photograph of a known landmark is to the service. The exact answers come from a matrix product,
independent of the search that is measured.
"""

import logging
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from embedder.errors import GalleryError
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest, Recall
from index.progress import watch_rows
from index.search.neighbors import Neighbors

LADDER = (500, 1000, 2000, 4000, 8000, 16000)
"""Numbers of candidates by codes that are tried until the answers are good enough."""

EXACT = Recall(queries=0, recall_at_1=1.0, class_agreement=1.0, worst_cosine_gap=0.0)
"""The recall of exact galleries: they compare every vector, so nothing is measured."""

_QUERIES = 1000
_CLASS_AGREEMENT, _COSINE_GAP = 0.9995, 0.005
_FEW_QUERIES, _WIDER, _LOST_AGREEMENT = 32, 4, 0.05  # of codes that were trained before
_ROUNDING = 2e-6  # a matrix product and FAISS add up in different orders

_log = logging.getLogger(__name__)


def measure_recall(
    gallery: Gallery,
    *,
    min_recall: float | None = None,
    ladder: Sequence[int] = LADDER,
) -> GalleryManifest:
    """Measure the recall of a new gallery, and choose how many candidates are refined in fp16.

    An exact gallery has recall 1 by construction. Else the number of candidates climbs a ladder
    until landmarks agree with the exact ones and similarities come close.

    Args:
        gallery: None of its rows is removed yet.
        min_recall: Lowest recall@1 that is accepted, in [0, 1].
        ladder: Numbers of candidates to try, ascending.

    Returns:
        Its manifest with ``k_factor`` and ``recall``; without where there is a single row,
        which has no other to be compared with.

    Raises:
        GalleryError: The recall is lower than ``min_recall``.
    """
    manifest = gallery.manifest
    if manifest.rows < 2:
        return manifest
    if manifest.kind == "exact":
        recall = EXACT
    else:
        k_factor, recall = _choose_k_factor(gallery, ladder)
        manifest = manifest.model_copy(update={"k_factor": k_factor})
    manifest = manifest.model_copy(update={"recall": recall})
    _log.info("%s: %s", manifest.factory, recall.model_dump_json())
    if min_recall is not None and recall.recall_at_1 < min_recall:
        found = f"recall@1 of {manifest.factory} is {recall.recall_at_1:.4f}"
        floor = f"below the stated floor of {min_recall}"
        raise GalleryError(f"{found}, {floor}; what was published is unchanged")
    return manifest


def reuses_codes(
    gallery: Gallery, added: NDArray[np.int64], *, min_recall: float | None = None
) -> bool:
    """Tell whether the codes of a gallery are good enough for rows that were added to it.

    A few of these are searched, and compared with what is found among many more candidates. They
    may agree less often than the gallery's own rows did, by 0.05 and one standard error: codes
    that find little in a gallery find no more once they are trained again.

    Args:
        gallery: Refines as many candidates as its manifest says.
        added: The rows.
        min_recall: Lowest recall@1 that is accepted beside that of landmarks.
    """
    k_factor = gallery.manifest.k_factor
    if k_factor is None or not added.size:
        return True
    drawn = np.random.default_rng(0).choice(added, min(_FEW_QUERIES, len(added)), replace=False)
    held_out = np.sort(drawn)
    gallery.refine(_WIDER * k_factor)
    truth = held_out_answers(gallery, held_out)
    gallery.refine(k_factor)
    recall = compare(held_out_answers(gallery, held_out), truth, gallery.catalog.landmarks)
    _log.info("new rows by the codes of the gallery: %s", recall.model_dump_json())
    own = (gallery.manifest.recall or EXACT).class_agreement
    lost = _LOST_AGREEMENT + math.sqrt(own * (1 - own) / recall.queries)
    enough = recall.class_agreement >= own - lost
    return enough and recall.recall_at_1 >= (min_recall or 0.0)


def _choose_k_factor(gallery: Gallery, ladder: Sequence[int]) -> tuple[int, Recall]:
    """Return the first number of candidates that is enough, and its recall."""
    rows = gallery.manifest.rows
    rng, count = np.random.default_rng(0), min(_QUERIES, rows)
    held_out = np.sort(rng.choice(rows, count, replace=False)).astype(np.int64)
    blocks = watch_rows(gallery.blocks(), rows, "measure recall")
    truth = exact_answers(blocks, gallery.vectors(held_out), excluded=held_out)
    for k_factor in ladder:
        gallery.refine(k_factor)
        recall = compare(held_out_answers(gallery, held_out), truth, gallery.catalog.landmarks)
        if recall.class_agreement >= _CLASS_AGREEMENT and recall.worst_cosine_gap <= _COSINE_GAP:
            break
    return k_factor, recall


def exact_answers(
    blocks: Iterable[NDArray[np.float32]],
    queries: NDArray[np.float32],
    *,
    excluded: NDArray[np.int64] | None = None,
) -> Neighbors:
    """Find the nearest row of each query by a matrix product in float32.

    Args:
        blocks: ``(b, d)`` unit rows each, in their order.
        queries: ``(n, d)`` unit rows.
        excluded: ``(n,)``, for each query a row that is not an answer to it.

    Returns:
        Row and similarity of each query, both ``(n,)``.
    """
    rows = np.full(len(queries), -1, np.int64)
    best = np.full(len(queries), -np.inf, np.float32)
    start = 0
    for block in blocks:
        similarities = queries @ block.T
        if excluded is not None:
            own = np.flatnonzero((excluded >= start) & (excluded < start + len(block)))
            similarities[own, excluded[own] - start] = -np.inf
        first = similarities.argmax(axis=1)
        found = similarities[np.arange(len(queries)), first]
        nearer = found > best
        rows[nearer], best[nearer] = first[nearer] + start, found[nearer]
        start += len(block)
    return Neighbors(rows, best.clip(-1.0, 1.0))


def compare(found: Neighbors, truth: Neighbors, landmarks: NDArray[np.int32]) -> Recall:
    """Compare the nearest rows of queries, ``(n,)`` each, with the exact ones.

    ``landmarks``, ``(rows,)``, are those of the rows of the gallery.
    """
    gaps = truth.similarities - found.similarities
    same = (found.rows == truth.rows) | (gaps <= _ROUNDING)
    return Recall(
        queries=len(gaps),
        recall_at_1=float(same.mean()),
        class_agreement=float((same | (landmarks[found.rows] == landmarks[truth.rows])).mean()),
        worst_cosine_gap=round(float(np.where(same, 0.0, gaps).max()), 6),
    )


def held_out_answers(gallery: Gallery, held_out: NDArray[np.int64]) -> Neighbors:
    """Search the nearest row of each held-out row that is not the row itself."""
    found = gallery.search(gallery.vectors(held_out), 2)
    queries, place = np.arange(len(held_out)), (found.rows[:, 0] == held_out).astype(np.int64)
    return Neighbors(found.rows[queries, place], found.similarities[queries, place])
