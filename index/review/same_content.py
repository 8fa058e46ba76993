"""Find pictures that are the same file under two landmarks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def across_landmarks(
    contents: NDArray[np.int64], landmarks: NDArray[np.integer], scores: NDArray[np.floating]
) -> Iterator[tuple[int, int]]:
    """Yield pictures of one content under several landmarks.

    Of each content, the picture with the largest score is taken to be right, of equal ones the
    first; so are all others of its landmark.

    Args:
        contents: ``(n,)``, a number for each content; of pictures without one, -1.
        landmarks: ``(n,)``, labels of the pictures.
        scores: ``(n,)``, how well each picture fits its landmark.

    Yields:
        The place of a picture whose landmark is probably wrong, and of the one that is right.

    >>> contents, landmarks = np.array([5, 7, 5, 5]), np.array([0, 1, 1, 2])
    >>> list(across_landmarks(contents, landmarks, np.array([0.2, 0.9, 0.8, 0.1])))
    [(0, 2), (3, 2)]
    """
    order = np.lexsort((-scores, contents))
    order = order[contents[order] >= 0]
    begins = np.flatnonzero(np.diff(contents[order], prepend=-1))
    for group in np.split(order, begins[1:]) if len(order) else ():
        right = int(group[0])
        wrong = group[landmarks[group] != landmarks[right]]
        yield from ((place, right) for place in np.sort(wrong).tolist())
