"""Queries that are pictures of the gallery itself, which make metrics too good."""

from __future__ import annotations

import logging

from index.evaluation.queries import AnsweredQueries
from index.gallery.gallery import Gallery

NEAR_DUPLICATE_COSINE = 0.99
"""A query this near to a picture of the gallery is probably that picture, encoded again."""

_NAMED = 5
"""How many duplicates of each kind the log names."""

_log = logging.getLogger(__name__)


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
    for query, picture, answer in zip(
        answered.queries, answered.pictures, answered.answers, strict=True
    ):
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
