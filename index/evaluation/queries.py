"""Queries of a gallery: embed them, answer them, and find those that the gallery contains.

The ranking is the served one, :mod:`index.gallery.recognize`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from index.building.embedded import EmbeddedBatch, ReadPicture
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions
from index.building.query_vectors import embed_paths
from index.evaluation.metrics import Prediction
from index.gallery.gallery import Gallery
from index.gallery.recognize import Recognition
from index.progress import watch_rows
from photographs import Photograph, Query

NEAR_DUPLICATE_COSINE = 0.99
"""A query this near to a picture of the gallery is probably that picture, encoded again."""

_NAMED = 5
"""How many duplicates of each kind the log names."""

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
    options: PipelineOptions = DEFAULT_OPTIONS,
) -> Iterator[EmbeddedBatch]:
    """Embed queries block by block, in order, with a progress bar on stderr.

    A warning is logged if the gallery was embedded by another runtime or in another precision.
    """
    made, ran = gallery.manifest.embedder, (embedder.runtime, embedder.precision)
    if (made.runtime, made.precision) != ran:
        words = "the gallery was embedded with %s in %s, the queries with %s in %s"
        _log.warning(words, made.runtime, made.precision, *ran)
    return embed_paths([query.path for query in queries], embedder, "embed queries", options)


def answer_in_blocks(
    answer: Callable[[NDArray[np.float32]], list[Recognition]],
    vectors: NDArray[np.float32],
    what: str = "",
) -> list[Recognition]:
    """Answer ``(n, d)`` queries a block at a time, which bounds the memory for their neighbors.

    A progress bar on stderr is titled ``what``; without a title there is none.
    """
    blocks: Iterator[NDArray[np.float32]] = (
        vectors[begin : begin + _BLOCK_QUERIES] for begin in range(0, len(vectors), _BLOCK_QUERIES)
    )
    watched = watch_rows(blocks, len(vectors), what) if what else blocks
    return [recognition for block in watched for recognition in answer(block)]


def to_prediction(gallery: Gallery, query_id: str, answer: Recognition) -> Prediction:
    """Name the landmark of an answer by its id."""
    return Prediction(query_id, gallery.catalog.landmark_id(answer.landmark), answer.confidence)


def count_duplicates(gallery: Gallery, answered: AnsweredQueries) -> tuple[int, int]:
    """Count the queries that are in the gallery, and name some of them in the log.

    Returns:
        How many are byte for byte a file of the gallery, and how many others have a cosine of
        at least :data:`NEAR_DUPLICATE_COSINE` to one of its pictures.
    """
    catalog = gallery.catalog
    found = catalog.rows_of_content({picture.sha256 for picture in answered.pictures}).tolist()
    row_of = {catalog.row(row).sha256: row for row in reversed(found)}
    same, near = list[str](), list[str]()
    triples = zip(answered.queries, answered.pictures, answered.answers, strict=True)
    for query, picture, answer in triples:
        nearest = int(answer.similarities.argmax())
        if (row := row_of.get(picture.sha256)) is not None:
            same.append(f"{query.id} is the same file as {catalog.picture_id(row)}")
        elif answer.similarities[nearest] >= NEAR_DUPLICATE_COSINE:
            row = int(answer.rows[nearest])
            near.append(f"{query.id} is very near to {catalog.picture_id(row)}")
    for duplicates in filter(None, (same, near)):
        named = ", ".join(duplicates[:_NAMED]) + (", …" if len(duplicates) > _NAMED else "")
        _log.warning("%d queries seem to be in the gallery: %s", len(duplicates), named)
    return len(same), len(near)
