"""Find pictures of several landmarks: a label is wrong, or the landmarks are one."""

import logging

import numpy as np
from numpy.typing import NDArray

from embedder.text import SOME, name_some
from index.gallery.gallery import Gallery

_log = logging.getLogger(__name__)


def warn_of_shared_pictures(gallery: Gallery, new: NDArray[np.int64]) -> int:
    """Log a warning of files that several landmarks have, byte for byte.

    Args:
        gallery: The gallery; removed rows are passed over.
        new: Rows to look at; those that have the same content as one of them are looked at too.

    Returns:
        How many such contents there are.
    """
    catalog = gallery.catalog
    rows = np.arange(len(catalog))
    if len(new) < len(catalog):
        rows = catalog.rows_of_content(catalog.column("sha256").take(new).to_pylist())
    rows = np.setdiff1d(rows, gallery.tombstones.rows, assume_unique=True)
    contents = catalog.column("sha256").take(rows).combine_chunks().dictionary_encode()
    numbers, landmarks = contents.indices.to_numpy(), catalog.landmarks[rows]
    order = np.lexsort((landmarks, numbers))
    same = np.diff(numbers[order]) == 0
    places = np.flatnonzero(same & (np.diff(landmarks[order]) != 0))
    _, firsts = np.unique(numbers[order][places], return_index=True)
    if len(firsts):
        pairs = [(rows[order[at]], rows[order[at + 1]]) for at in places[firsts[:SOME]].tolist()]
        shown = [" = ".join(_describe(gallery, row) for row in pair) for pair in pairs]
        named = name_some(shown, len(firsts))
        _log.warning("%d pictures are in several landmarks: %s", len(firsts), named)
    return len(firsts)


def _describe(gallery: Gallery, row: np.int64) -> str:
    found = gallery.catalog.row(int(row))
    return f"{found.picture_id} ({found.landmark_id})"
