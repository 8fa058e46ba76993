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
    best = int(np.where(own, similarities, -2.0).argmax())
    shown, other = gallery.rows_of(landmark), np.empty(0, np.int64)
    if not own.all():
        other = gallery.rows_of(int(codes[np.where(own, -2.0, similarities).argmax()]))
    around = np.delete(rows[:NEAREST_ROWS], best) if best < NEAREST_ROWS else rows[:NEAREST_ROWS]
    looked = [rows[[best]], around, _sample(shown), _sample(other)]
    vectors = gallery.vectors(np.concatenate(looked))
    nearest, near, *centers = np.split(vectors, np.cumsum([len(one) for one in looked[:-1]]))
    distractors = gallery.distractors
    return Evidence(
        similarities=similarities,
        own=own,
        density=float((near @ nearest[0]).mean()) if len(near) else 1.0,
        pictures=len(shown),
        center=_center_cosine(queries, centers[0]),
        other_center=_center_cosine(queries, centers[1]) if len(other) else None,
        row_penalty=float(distractors.penalties[rows[best]]) if distractors else 0.0,
        query_penalty=seen.query_penalty,
    ).signals()


def _sample(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at most :data:`CENTER_ROWS` of some rows, evenly spread."""
    if len(rows) <= CENTER_ROWS:
        return rows
    return rows[np.arange(CENTER_ROWS) * (len(rows) - 1) // (CENTER_ROWS - 1)]


def _center_cosine(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> float:
    """Return the cosine of a query to the center of vectors; of several pictures the largest."""
    return float((queries @ unit_rows(vectors.mean(axis=0)[None])[0]).max())
