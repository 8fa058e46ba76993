"""Measure the signals of an answer in a gallery, for a calibration that learned from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.arrays import unit_rows
from index.gallery.gallery import Gallery
from index.ranking.signals import CENTER_ROWS, NEAREST_ROWS, SEEN_ROWS, Evidence


@dataclass(frozen=True, slots=True)
class Seen:
    """The rows nearest to one query, or to several pictures that are one query.

    Attributes:
        rows: ``(w,)``, largest score first.
        similarities: ``(w,)`` cosines.
        scores: ``(w,)``, the cosines less the penalties of the rows.
        query_penalty: Penalty C, of strength 1, of the picture that is nearest; 0 where nothing
            needs it.
    """

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]
    scores: NDArray[np.float32]
    query_penalty: float


def measure_signals(
    gallery: Gallery, queries: NDArray[np.float32], seen: Seen, landmark: int
) -> NDArray[np.float64]:
    """Return the signals, ``(s,)``, of the answer ``landmark`` to one query.

    Args:
        gallery: A whole one.
        queries: ``(p, d)`` unit rows, the pictures of the query.
        seen: At least :data:`SEEN_ROWS` rows, or all; one of them is of the landmark. More change
            nothing.
        landmark: Its code.
    """
    rows, similarities = seen.rows[:SEEN_ROWS], seen.similarities[:SEEN_ROWS]
    codes = gallery.catalog.landmarks[rows]
    own = codes == landmark
    nearest = int(np.where(own, similarities, -2.0).argmax())
    shown, other_center = gallery.rows_of(landmark), None
    if not own.all():
        other = int(codes[np.where(own, -2.0, similarities).argmax()])
        other_center = _center_cosine(gallery, queries, gallery.rows_of(other))
    distractors = gallery.distractors
    return Evidence(
        similarities=similarities,
        own=own,
        density=_density(gallery, rows, nearest),
        pictures=len(shown),
        center=_center_cosine(gallery, queries, shown),
        other_center=other_center,
        row_penalty=float(distractors.penalties[rows[nearest]]) if distractors else 0.0,
        query_penalty=seen.query_penalty,
    ).signals()


def _density(gallery: Gallery, rows: NDArray[np.int64], nearest: int) -> float:
    """Return the mean cosine of the row at a place to the others of the first; 1 if it is alone."""
    places = np.arange(min(NEAREST_ROWS, len(rows)))
    others = gallery.vectors(rows[places[places != nearest]])
    if not len(others):
        return 1.0
    return float((others @ gallery.vectors(rows[[nearest]])[0]).mean())


def _center_cosine(
    gallery: Gallery, queries: NDArray[np.float32], rows: NDArray[np.int64]
) -> float:
    """Return the cosine of a query to the center of some rows, or of at most so many of them.

    Of several pictures the largest counts.
    """
    if len(rows) > CENTER_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, CENTER_ROWS).astype(np.int64)]
    center = unit_rows(gallery.vectors(rows).mean(axis=0)[None])[0]
    return float((queries @ center).max())
