"""What real embeddings look like, in a few figures; and any number of rows that look alike.

    python benchmarks/cosines.py STORE

A gallery of millions of landmarks' photographs is more than a benchmark can ask for, and random
directions are no stand-in: rows of one landmark are near each other, and those of a large one are
nearly tied. So the cosines of a real gallery are measured, and rows are drawn from a seed that have
the same. The last line is JSON: the figures of the store's gallery, and those of rows drawn by
them. :data:`MEASURED` was made so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.arrays import unit_rows
from index.gallery.gallery import Gallery

SEED, DIMENSION = 20, 512
CLEAN_ROWS, LANDMARK_COUNT = 1_580_470, 81_313  # train_clean.csv of GLDv2 v2.1

SMALLEST, LARGEST_SHARE = 2, 6_000 / CLEAN_ROWS
"""Class sizes of GLDv2 go from 2 to thousands."""

LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
"""Of the quantiles that are measured, from the farthest picture to the nearest."""

BLOCK = 1 << 14
_MOST, _SAMPLE, _STEPS = 4096, 2048, 10


@dataclass(frozen=True, slots=True)
class Cosines:
    """How near to each other the pictures of a gallery are.

    Attributes:
        within: Mean between two pictures of a landmark, each picture counting the same.
        between: Mean between two pictures of two landmarks.
        between_deviation: Standard deviation of these.
        nearest: Mean of a picture to the nearest other one.
        to_center: Quantiles at :data:`LEVELS` of a picture to the center of its landmark.
        within_directions: Participation ratio of the variances of what pictures add to centers.
    """

    within: float
    between: float
    between_deviation: float
    nearest: float
    to_center: tuple[float, ...]
    within_directions: float


MEASURED = Cosines(
    within=0.7808,
    between=-0.0329,
    between_deviation=0.1875,
    nearest=0.929,
    to_center=(-0.2508, 0.6089, 0.7323, 0.8544, 0.9047, 0.939, 0.9671, 0.9794, 0.9905),
    within_directions=22.3069,
)
"""Of 2,222 photographs of 28 landmarks of gldv2-mini, by a MobileNetV2 trained on them.

The recipe was the quickstart's with the first blocks frozen, and pictures had 256 pixels. Galleries
are what embedders are trained on, so these cosines are those of photographs that it knows.
"""

DIRECTIONS = 13.2
"""With these, rows drawn by :data:`MEASURED` have its deviation between landmarks.

Their mean between landmarks is 0, and their nearest are less near (0.84), for photographs of a
landmark come in groups that are more alike, which is not drawn: one row of a group stands out less.
"""


def measure(vectors: NDArray[np.float32], landmarks: NDArray[np.integer]) -> Cosines:
    """Measure a gallery.

    Args:
        vectors: ``(n, d)`` unit rows; all pairs are compared, so not too many.
        landmarks: ``(n,)`` their landmarks, at least two, and one of two pictures.
    """
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, np.nan)
    same = landmarks[:, None] == landmarks[None]
    accompanied = same.sum(axis=1) > 1
    others = np.where(same, np.nan, cosines)
    _, codes = np.unique(landmarks, return_inverse=True)
    sums = np.zeros((codes.max() + 1, vectors.shape[1]), np.float32)
    np.add.at(sums, codes, vectors)
    centers = unit_rows(sums)[codes]
    to_center = np.einsum("nd,nd->n", vectors, centers)
    added = (vectors - to_center[:, None] * centers)[accompanied]
    variances = np.linalg.eigvalsh(added.T @ added / len(added))
    own = np.where(same, cosines, np.nan)[accompanied]
    return Cosines(
        within=_rounded(np.nanmean(own, axis=1).mean()),
        between=_rounded(np.nanmean(others)),
        between_deviation=_rounded(np.nanstd(others)),
        nearest=_rounded(np.nanmax(cosines, axis=1).mean()),
        to_center=tuple(map(_rounded, np.quantile(to_center[accompanied], LEVELS))),
        within_directions=_rounded(variances.sum() ** 2 / (variances**2).sum()),
    )


def _rounded(value: np.floating) -> float:
    return round(float(value), 4)


def class_sizes(rows: int) -> NDArray[np.int64]:
    """Return the sizes of the landmarks, largest first, which add up to ``rows``.

    A power law of the shifted rank, through the largest and the smallest size.
    """
    landmarks = max(2, round(LANDMARK_COUNT * min(1.0, rows / CLEAN_ROWS)))
    ranks = np.arange(1, landmarks + 1, dtype=np.float64)
    largest = max(2 * SMALLEST, rows * LARGEST_SHARE)
    low, high = 0.0, 1e6
    for _ in range(100):  # more shift, more rows
        shift = (low + high) / 2
        exponent = np.log(largest / SMALLEST) / np.log((landmarks + shift) / (1 + shift))
        sizes = largest * ((ranks + shift) / (1 + shift)) ** -exponent
        low, high = (low, shift) if sizes.sum() > rows else (shift, high)
    whole = np.floor(sizes).astype(np.int64)
    whole[: int(rows - whole.sum())] += 1
    return whole


def spectrum(directions: float) -> NDArray[np.float32]:
    """Return deviations along the axes: a power law with a participation ratio of its variances."""
    ranks = np.arange(1, DIMENSION + 1, dtype=np.float64)
    low, high = 0.0, 3.0
    for _ in range(60):
        exponent = (low + high) / 2
        variances = ranks**-exponent
        ratio = variances.sum() ** 2 / (variances**2).sum()
        low, high = (exponent, high) if ratio > directions else (low, exponent)
    deviations: NDArray[np.float32] = np.sqrt(variances / variances.sum()).astype(np.float32)
    return deviations


class Drawn:
    """Pictures of landmarks, drawn from a seed: always the same, whatever is asked first.

    Args:
        rows: How many pictures the gallery has.
        cosines: What they shall be like.
        directions: Participation ratio of the variances of the landmarks' centers.
    """

    def __init__(self, rows: int, cosines: Cosines, directions: float) -> None:
        rng = np.random.default_rng(SEED)
        sizes = rng.permutation(class_sizes(rows))
        self.landmarks = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        turns = [np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0] for _ in range(2)]
        between = spectrum(directions)[:, None] * turns[0].astype(np.float32)
        self._within = spectrum(cosines.within_directions)[:, None] * turns[1].astype(np.float32)
        self._to_center = cosines.to_center
        centers = rng.standard_normal((len(sizes), DIMENSION), np.float32)
        self._centers = unit_rows(centers @ between)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the gallery, block by block."""
        for number, start in enumerate(range(0, len(self.landmarks), BLOCK)):
            yield self._pictures(self.landmarks[start : start + BLOCK], (2, number))

    def queries(self, count: int) -> NDArray[np.float32]:
        """Return further pictures of the landmarks, as often as these are in the gallery."""
        shown = np.random.default_rng((SEED, 1)).choice(self.landmarks, count)
        return self._pictures(shown, (3,))

    def _pictures(self, landmarks: NDArray[np.int32], seed: tuple[int, ...]) -> NDArray[np.float32]:
        rng = np.random.default_rng((SEED, *seed))
        centers = self._centers[landmarks]
        added = rng.standard_normal(centers.shape, np.float32) @ self._within
        added -= np.einsum("nd,nd->n", added, centers)[:, None] * centers
        cosines = np.interp(rng.random(len(landmarks)), LEVELS, self._to_center)
        cosines = cosines.astype(np.float32)[:, None]
        return unit_rows(cosines * centers + np.sqrt(1 - cosines**2) * unit_rows(added))


def fit_directions(cosines: Cosines) -> float:
    """Find how many directions the centers of drawn landmarks need to be so near to each other."""
    low, high = 2.0, float(DIMENSION)
    for _ in range(_STEPS):
        directions = (low * high) ** 0.5
        found = measure_drawn(cosines, directions).between_deviation
        low, high = (directions, high) if found > cosines.between_deviation else (low, directions)
    return round(directions, 1)


def measure_drawn(cosines: Cosines, directions: float) -> Cosines:
    """Measure rows drawn by the figures of others."""
    drawn = Drawn(_SAMPLE, cosines, directions)
    return measure(np.concatenate(list(drawn.blocks())), drawn.landmarks)


def measure_store(store: Path) -> Cosines:
    """Measure the published gallery of a store, or as many of its rows as can be compared."""
    with closing(Gallery.open(store, embedder_digest=None)) as gallery:
        count = gallery.manifest.rows
        rows = np.random.default_rng(SEED).choice(count, min(count, _MOST), replace=False)
        return measure(gallery.vectors(rows), gallery.catalog.landmarks[rows])


def main() -> None:
    """Measure a store, draw rows that look alike, and measure these."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", type=Path)
    found = measure_store(parser.parse_args().store)
    directions = fit_directions(found)
    drawn = measure_drawn(found, directions)
    result = {"measured": asdict(found), "directions": directions, "drawn": asdict(drawn)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
