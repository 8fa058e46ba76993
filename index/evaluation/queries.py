"""Queries of a gallery: embedded in batches, and answered by its ranking.

The ranking is the served one, :mod:`index.gallery.recognize`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from index.building.pipeline import BATCH_PICTURES, EmbeddedBatch, ReadPicture, embed_paths
from index.evaluation.metrics import Prediction
from index.gallery.gallery import Gallery
from index.gallery.recognize import Recognition
from photographs import Photograph, Query

_BLOCK_QUERIES = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AnsweredQueries:
    """Readable queries and the answers of a gallery.

    Attributes:
        queries: ``n`` queries.
        pictures: Their files.
        vectors: ``(n, d)`` unit rows.
        answers: By the gallery's own ranking, with :data:`index.evaluation.metrics.DEPTH`
            neighbors.
    """

    queries: Sequence[Query]
    pictures: Sequence[ReadPicture]
    vectors: NDArray[np.float32]
    answers: Sequence[Recognition]


def embed_queries(
    gallery: Gallery,
    embedder: Embedder,
    queries: Sequence[Photograph] | Sequence[Query],
    *,
    batch_pictures: int = BATCH_PICTURES,
    readers: int = 0,
) -> Iterator[EmbeddedBatch]:
    """Embed queries batch by batch, in order, with a progress bar on stderr.

    Args:
        gallery: Will be searched; a warning is logged if it was embedded by another runtime or
            in another precision.
        embedder: The one that made the gallery.
        queries: Pictures to embed.
        batch_pictures: Pictures per batch of the network.
        readers: Threads that read and decode; 0 for one per core.
    """
    made = (gallery.manifest.embedder.runtime, gallery.manifest.embedder.precision)
    if made != (embedder.runtime, embedder.precision):
        _log.warning(
            "the gallery was embedded with %s in %s, the queries with %s in %s",
            *made,
            embedder.runtime,
            embedder.precision,
        )
    return embed_paths(
        [query.path for query in queries],
        embedder,
        what="embed queries",
        batch_pictures=batch_pictures,
        readers=readers,
    )


def answer_in_blocks(
    answer: Callable[[NDArray[np.float32]], list[Recognition]], vectors: NDArray[np.float32]
) -> list[Recognition]:
    """Answer ``(n, d)`` queries a block at a time, which bounds the memory for their neighbors."""
    starts = range(0, len(vectors), _BLOCK_QUERIES)
    blocks = (vectors[start : start + _BLOCK_QUERIES] for start in starts)
    return [recognition for block in blocks for recognition in answer(block)]


def to_prediction(gallery: Gallery, query_id: str, answer: Recognition) -> Prediction:
    """Name the landmark of an answer by its id."""
    return Prediction(query_id, gallery.catalog.landmark_id(answer.landmark), answer.confidence)
