"""Compare each picture of a gallery with its own landmark and with its nearest neighbors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.evaluation.queries import NEAR_DUPLICATE_COSINE
from index.gallery.gallery import Gallery
from index.progress import watch_rows
from index.search.neighbors import Neighbors

_BLOCK_ROWS = 1 << 14
_BLOCK_QUERIES = 256
_NEIGHBORS, _WIDER, _WIDEST = 16, 8, 1024
_REFINED = 128
"""Candidates by codes that are compared exactly: near-identical vectors have equal codes."""

_FEWEST = 4
"""A landmark of fewer pictures has no outliers: it is not known what is usual for it."""

_DEVIATIONS, _LEAST_DEVIATION = 3.0, 0.03
_NORMAL = 1.4826
"""Standard deviation of a normal distribution, in median absolute deviations."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A row, a row of another landmark that it is compared with, and their cosine."""

    row: int
    other: int
    similarity: float


@dataclass(frozen=True, slots=True, eq=False)
class Fits:
    """How well each of the live rows of a gallery fits its landmark.

    Attributes:
        cosines: ``(rows,)`` float32, cosine to the mean of the landmark's other pictures; -1
            where there are none, and for removed rows.
        unusual: ``(rows,)``, whether that is low beside the landmark's other pictures: three
            robust standard deviations (by the median absolute deviation) below the median.
    """

    cosines: NDArray[np.float32]
    unusual: NDArray[np.bool_]


def measure_fits(gallery: Gallery) -> Fits:
    """Compare each live row with the mean of its landmark's other pictures."""
    rows, codes = gallery.live_rows(), gallery.catalog.landmarks
    cosines = np.full(len(codes), -1, np.float32)
    unusual = np.zeros(len(codes), np.bool_)
    order = rows[np.argsort(codes[rows], kind="stable")]
    blocks = _whole_landmarks(order, codes)
    for own in watch_rows(blocks, len(order), "compare with landmarks"):
        begins = np.flatnonzero(np.diff(codes[own], prepend=-1))
        counts = np.diff(begins, append=len(own))
        vectors = gallery.vectors(own)
        others = np.repeat(np.add.reduceat(vectors, begins), counts, axis=0) - vectors
        norms = np.linalg.norm(others, axis=1)
        products = np.einsum("nd,nd->n", vectors, others)
        several = np.repeat(counts, counts) > 1
        found = np.where(several & (norms > 0), products / np.maximum(norms, 1e-12), -1)
        cosines[own] = found
        for begin, count in zip(begins.tolist(), counts.tolist(), strict=True):
            if count >= _FEWEST:
                place = slice(begin, begin + count)
                unusual[own[place]] = _is_low(found[place])
    return Fits(cosines, unusual)


def _whole_landmarks(
    order: NDArray[np.int64], codes: NDArray[np.integer]
) -> Iterator[NDArray[np.int64]]:
    """Cut rows that are sorted by landmark into blocks, each of whole landmarks."""
    begins = np.flatnonzero(np.diff(codes[order], prepend=-1))
    begin = 0
    while begin < len(order):
        later = begins[begins >= begin + _BLOCK_ROWS]
        end = int(later[0]) if len(later) else len(order)
        yield order[begin:end]
        begin = end


def _is_low(cosines: NDArray[np.floating]) -> NDArray[np.bool_]:
    middle = np.median(cosines)
    deviation = max(_NORMAL * float(np.median(np.abs(cosines - middle))), _LEAST_DEVIATION)
    low: NDArray[np.bool_] = cosines < middle - _DEVIATIONS * deviation
    return low


def compare_neighbors(gallery: Gallery, fits: Fits) -> tuple[list[Pair], list[Pair]]:
    """Search the gallery for each of its own rows.

    Returns:
        Rows that are near-identical, by a cosine of at least
        :data:`index.evaluation.queries.NEAR_DUPLICATE_COSINE`, to a row of another landmark that
        fits it better, each with the best of these; and outliers: unusual rows, each with its
        nearest neighbor, which shows another landmark.
    """
    gallery.refine(_REFINED)
    near, outliers = dict[int, Pair](), list[Pair]()
    rows, codes = gallery.live_rows(), gallery.catalog.landmarks
    blocks = (rows[n : n + _BLOCK_QUERIES] for n in range(0, len(rows), _BLOCK_QUERIES))
    for own in watch_rows(blocks, len(rows), "look for neighbors"):
        vectors = gallery.vectors(own)
        found = _search_others(gallery, vectors, own, _NEIGHBORS)
        strange = (found.rows >= 0) & (codes[found.rows] != codes[own][:, None])
        is_near = found.similarities >= NEAR_DUPLICATE_COSINE
        for place in np.flatnonzero((strange & is_near).any(axis=1) | is_near[:, -1]).tolist():
            for pair in _near_pairs(gallery, vectors[place], int(own[place])):
                _keep_worse(near, pair, fits)
        for place in np.flatnonzero(strange[:, 0] & fits.unusual[own]).tolist():
            first, similarity = found.rows[place, 0], found.similarities[place, 0]
            outliers.append(Pair(int(own[place]), int(first), float(similarity)))
    return [near[row] for row in sorted(near)], outliers


def _search_others(
    gallery: Gallery, vectors: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> Neighbors:
    """Find ``k`` neighbors of each row that are not the row itself; -1 where there are fewer."""
    found = gallery.search(vectors, k + 1)
    own = found.rows == rows[:, None]
    own[~own.any(axis=1), -1] = True  # among many equal ones the row itself may come later
    order = np.argsort(own, axis=1, kind="stable")
    others = np.take_along_axis(np.where(own, -1, found.rows), order, axis=1)
    similarities = np.take_along_axis(np.where(own, -1, found.similarities), order, axis=1)
    k = max(1, others.shape[1] - 1)
    return Neighbors(others[:, :k], similarities[:, :k].astype(np.float32))


def _near_pairs(gallery: Gallery, vector: NDArray[np.float32], row: int) -> Iterator[Pair]:
    """Yield the near-identical neighbors of a row that show another landmark.

    They may stand behind many of its own landmark, so the search is widened.
    """
    codes, width = gallery.catalog.landmarks, _NEIGHBORS
    found = _search_others(gallery, vector[None], np.array([row]), width)
    while found.similarities[0, -1] >= NEAR_DUPLICATE_COSINE and width < _WIDEST:
        width *= _WIDER
        found = _search_others(gallery, vector[None], np.array([row]), width)
    pairs = zip(found.rows[0].tolist(), found.similarities[0].tolist(), strict=True)
    for other, similarity in pairs:
        if similarity >= NEAR_DUPLICATE_COSINE and codes[other] != codes[row]:
            yield Pair(row, other, similarity)


def _keep_worse(near: dict[int, Pair], pair: Pair, fits: Fits) -> None:
    """Keep, of the row that fits less well, the pair with the row that fits best."""
    better, worse = sorted((pair.row, pair.other), key=lambda row: (-fits.cosines[row], row))
    known = near.get(worse)
    if known is None or fits.cosines[better] > fits.cosines[known.other]:
        near[worse] = Pair(worse, better, pair.similarity)
