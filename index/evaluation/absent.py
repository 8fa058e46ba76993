"""Find queries that no answer of a gallery can be right for."""

import logging

import numpy as np
import pyarrow as pa

from embedder.text import name_some
from index.evaluation.truths import Truths
from index.gallery.gallery import Gallery
from photographs import QueryList

_log = logging.getLogger(__name__)


def count_absent(gallery: Gallery, queries: QueryList, truths: Truths) -> int:
    """Count the queries whose landmarks a gallery lacks, all of them; log their names.

    ``truths`` are those of the queries.
    """
    present = np.isin(truths.codes, gallery.landmarks())
    answerable = np.bincount(truths.owners[present], minlength=truths.count) > 0
    absent = truths.known & ~answerable
    if count := int(np.count_nonzero(absent)):
        lost = queries.landmark_ids.filter(pa.array(absent[truths.owners])).unique().to_pylist()
        words = "%d queries show %d landmarks that the gallery lacks, so no answer is right: %s"
        _log.warning(words, count, len(lost), name_some(sorted(lost)))
    return count
