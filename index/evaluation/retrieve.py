"""Retrieve the gallery pictures nearest to each of some pictures, and write them as a submission.

The form is that of the retrieval challenges on Google Landmarks v2, and so is the score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions
from index.evaluation import metrics
from index.evaluation.defaults import RETRIEVED
from index.evaluation.queries import AnsweredPictures, answer_pictures
from index.evaluation.submission import Submission, check_output, encode_id, write_submission
from index.gallery.gallery import Gallery
from index.gallery.recognize import recognize_by
from photographs import Photograph, PhotographList, read_header, read_rows

_IGNORED = "Ignored"
_BLOCK_QUERIES = 1024


@dataclass(frozen=True, slots=True)
class RetrievalRecipe:
    """The options of a retrieval.

    Attributes:
        k: Most pictures of an answer.
        solution: CSV file ``id,images[,Usage]`` of the pictures that should be found; ``None``
            scores nothing.
        pipeline: Batch size and threads.
        reranked: See :class:`index.ranking.ranking.Ranking`; ``None`` for what the gallery's own
            has.
    """

    k: int = RETRIEVED
    solution: Path | None = None
    pipeline: PipelineOptions = DEFAULT_OPTIONS
    reranked: int | None = None


def retrieve(
    gallery: Gallery,
    embedder: Embedder,
    queries: Sequence[Photograph],
    out: Path,
    recipe: RetrievalRecipe | None = None,
) -> tuple[Submission, float | None]:
    """Write ``id,images``, one row for each query, in their order.

    ``images`` are the ids of gallery pictures, nearest first by the gallery's ranking, separated
    by spaces; an id that has white space is percent-encoded. It is empty for a picture that
    cannot be read, which ``<out>.unreadable.csv`` beside it lists. Both files are written whole
    or not at all.

    Returns:
        What was written, and mAP@100; ``None`` without a solution.

    Raises:
        CatalogError: Two queries have the same id, ``out`` is a folder, or the solution is
            faulty, or about none of the queries.
    """
    recipe, asked = recipe or RetrievalRecipe(), PhotographList.of(queries)
    check_output(out, asked)
    solution = read_solution(recipe.solution) if recipe.solution else None
    if solution is not None and solution.keys().isdisjoint(asked.ids.to_pylist()):
        raise CatalogError(recipe.solution or out, "it is about none of the queries")
    ranking = gallery.manifest.ranking
    if recipe.reranked is not None:
        ranking = ranking.model_copy(update={"reranked": recipe.reranked})
    answer = partial(recognize_by, ranking, gallery, k=recipe.k)
    found = answer_pictures(gallery, embedder, asked, answer, recipe.pipeline, recipe.k)
    written = write_submission(out, "images", _rows(gallery, asked, found), found)
    return written, None if solution is None else score_answers(gallery, asked, found, solution)


def read_solution(path: Path) -> dict[str, list[str]]:
    """Read which pictures should be found, by query id, without queries that are not scored.

    Raises:
        CatalogError: The file is missing or faulty; the line is named.
    """
    usage = ("Usage",) if "Usage" in read_header(path) else ()
    solution: dict[str, list[str]] = {}
    for line, (query, images, *used) in read_rows(path, ("id", "images", *usage)):
        if query in solution:
            raise CatalogError(path, f"line {line}: query {query} is listed twice")
        if used != [_IGNORED] and (relevant := images.split()):
            solution[query] = relevant
    if not solution:
        raise CatalogError(path, "it has no query with pictures that should be found")
    return solution


def score_answers(
    gallery: Gallery,
    asked: PhotographList,
    found: AnsweredPictures,
    solution: dict[str, list[str]],
) -> float:
    """Return mAP@100 over all queries of a solution; one that was not asked scores 0.

    Source: :func:`index.evaluation.metrics.mean_average_precision_at_100`.
    """
    depth = min(found.answers.rows.shape[1], metrics.DEPTH)
    places = {query: place for place, query in enumerate(asked.ids.to_pylist())}
    relevant = np.zeros((len(solution), depth), np.bool_)
    counts = np.zeros(len(solution), np.int64)
    for number, (query, pictures) in enumerate(solution.items()):
        wanted = {unquote(picture) for picture in pictures}
        counts[number] = len(wanted)
        place = places.get(query)
        if place is not None and found.readable[place]:
            own = [row for picture in wanted if (row := gallery.find_picture(picture)) is not None]
            relevant[number] = np.isin(found.answers.rows[place, :depth], own)
    return metrics.mean_average_precision_of(relevant, counts)


def _rows(
    gallery: Gallery, asked: PhotographList, found: AnsweredPictures
) -> Iterator[tuple[str, str]]:
    picture_ids, width = gallery.catalog.column("picture_id"), found.answers.rows.shape[1]
    for begin in range(0, len(asked), _BLOCK_QUERIES):  # a look into the column takes long
        block = slice(begin, begin + _BLOCK_QUERIES)
        rows = np.where(found.readable[block, None], found.answers.rows[block], 0)
        ids = picture_ids.take(rows.reshape(-1)).to_pylist()
        for place, query in enumerate(asked.ids[block].to_pylist()):
            own = ids[place * width : (place + 1) * width] if found.readable[begin + place] else ()
            yield query, " ".join(map(encode_id, own))
