"""Judge what is fitted to labeled queries by queries that it was not fitted to.

The queries are cut into two random halves, many times; each half judges what was fitted to the
other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

HALVINGS = 100
"""Each gives two halves."""

Places = NDArray[np.int64]


def halve(n: int, halvings: int = HALVINGS, *, seed: int = 0) -> Iterator[tuple[Places, Places]]:
    """Yield twice ``halvings`` times the places to fit to and those to judge by, ascending.

    >>> [(one.tolist(), other.tolist()) for one, other in halve(4, 1)]
    [([0, 2], [1, 3]), ([1, 3], [0, 2])]
    """
    rng = np.random.default_rng(seed)
    for _ in range(halvings):
        one, other = (np.sort(half) for half in np.array_split(rng.permutation(n), 2))
        yield one, other
        yield other, one
