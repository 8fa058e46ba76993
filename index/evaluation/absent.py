"""Find queries that no answer of a gallery can be right for."""

import logging
from collections.abc import Sequence

import numpy as np

from index.gallery.gallery import Gallery
from photographs import Query

_NAMED = 5

_log = logging.getLogger(__name__)


def count_absent(gallery: Gallery, queries: Sequence[Query]) -> int:
    """Count the queries whose landmarks a gallery lacks, all of them; log their names."""
    shown = {landmark for query in queries for landmark in query.landmark_ids}
    codes = gallery.catalog.landmarks_of_ids(shown)
    live = np.unique(np.delete(gallery.catalog.landmarks, gallery.tombstones.rows))
    present = {landmark for landmark, code in codes.items() if code in live}
    absent = [q for q in queries if q.landmark_ids and present.isdisjoint(q.landmark_ids)]
    if absent:
        lost = sorted({landmark for query in absent for landmark in query.landmark_ids})
        named = ", ".join(lost[:_NAMED]) + (", …" if len(lost) > _NAMED else "")
        words = "%d queries show %d landmarks that the gallery lacks, so no answer is right: %s"
        _log.warning(words, len(absent), len(lost), named)
    return len(absent)
