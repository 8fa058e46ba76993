"""Splits of a list of photographs: pure, and the same for the same seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from embedder.photographs import Photograph


def stratified_split(
    photographs: Sequence[Photograph], fraction: float, *, seed: int
) -> tuple[list[Photograph], list[Photograph]]:
    """Keep back about ``fraction`` of each landmark's photographs.

    A landmark always keeps at least two photographs to learn from, so the smallest give none.

    Args:
        photographs: All of them.
        fraction: Part to keep back, in [0, 1).
        seed: Which ones.

    Returns:
        Those to learn from and those kept back, each in the order given.
    """
    by_landmark: dict[str, list[int]] = defaultdict(list)
    for position, photograph in enumerate(photographs):
        by_landmark[str(photograph.landmark_id)].append(position)
    rng = np.random.default_rng(seed)
    kept_back: set[int] = set()
    for positions in by_landmark.values():
        wanted = max(1, round(fraction * len(positions))) if fraction else 0
        number = max(0, min(wanted, len(positions) - 2))
        kept_back.update(rng.permutation(positions)[:number].tolist())
    learned = [p for position, p in enumerate(photographs) if position not in kept_back]
    return learned, [photographs[position] for position in sorted(kept_back)]


def first_of_each(photographs: Sequence[Photograph], limit: int) -> list[Photograph]:
    """Take at most ``limit`` photographs of each landmark, the first ones."""
    taken: dict[str, int] = defaultdict(int)
    chosen = []
    for photograph in photographs:
        landmark = str(photograph.landmark_id)
        taken[landmark] += 1
        if taken[landmark] <= limit:
            chosen.append(photograph)
    return chosen
