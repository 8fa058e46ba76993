"""Calibrate a gallery by labeled queries.

The calibrated build shares every file with the one before; only its manifest is its own.
"""

import logging
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.building.embedded import Tally
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions
from index.building.publish import republish
from index.evaluation.absent import count_absent
from index.evaluation.defaults import PRECISION_TARGET
from index.evaluation.fit import fit_calibration, label_answers
from index.evaluation.queries import EmbeddedQueries, embed_queries, rows_with_content
from index.evaluation.truths import Truths
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store
from photographs import PhotographSet

_DISTRACTOR_COSINE = 0.9999
"""A query this near to a distractor is that picture."""

_FEWEST = 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CalibrationRecipe:
    """The options of a calibration.

    Attributes:
        precision_target: Share of correct answers above the threshold, in (0, 1).
        build_id: The build that is calibrated; ``None`` for the published one.
        pipeline: Batch size and threads.
    """

    precision_target: float = PRECISION_TARGET
    build_id: str | None = None
    pipeline: PipelineOptions = DEFAULT_OPTIONS


def calibrate(
    store: Store,
    embedder: Embedder,
    data: PhotographSet,
    recipe: CalibrationRecipe | None = None,
    tally: Tally | None = None,
) -> GalleryManifest:
    """Calibrate a gallery by labeled queries, and publish the result if it was published.

    Fitted are the strength of the query penalty, where the gallery has distractors; the
    probability of an answer by its confidence, and by several signals where that judges better;
    and the threshold above which an answer counts as known. Queries that are pictures of the
    gallery, distractors among them, are left out.

    Args:
        store: Holds the gallery.
        embedder: The one that made it.
        data: Holds the queries, some of which show no landmark.
        recipe: Options.
        tally: Is told how many queries were embedded.

    Raises:
        StoreBusyError: Another process writes to the store.
        CatalogError: There are too few queries, or none without a landmark.
        GalleryError: The confidence does not separate correct from wrong answers, or no
            threshold reaches the target; or the store cannot be written.
    """
    queries = data.queries()
    if not queries:
        raise CatalogError(data.directory, "it holds no labeled queries to calibrate by")
    if all(query.landmark_ids for query in queries):
        reason = (
            "every query shows a landmark: without pictures of none, no threshold can be fitted"
        )
        raise CatalogError(data.directory, reason)
    recipe = recipe or CalibrationRecipe()
    with (
        store.writing(),
        closing(
            Gallery.open(store.path, embedder_digest=embedder.digest, build=recipe.build_id)
        ) as gallery,
    ):
        count_absent(gallery, queries, Truths.of_queries(queries, gallery.catalog))
        batches = embed_queries(gallery, embedder, queries, recipe.pipeline)
        readable = EmbeddedQueries.join(batches)
        if tally is not None:
            tally.embedded = readable.embedded
            tally.known = len(readable.places) - readable.embedded
        usable = rows_with_content(gallery, readable.contents) < 0
        usable &= ~_are_distractors(gallery, readable.vectors)
        places, vectors = readable.places[usable], readable.vectors[usable]
        if skipped := len(queries) - len(places):
            _log.warning("%d queries are unreadable or in the gallery itself; left out", skipped)
        if len(places) < _FEWEST:
            reason = f"it has {len(places)} usable queries; {_FEWEST} are needed"
            raise CatalogError(data.directory, reason)
        truths = Truths.of_queries(queries.take(places), gallery.catalog)
        strength, calibration = fit_calibration(
            label_answers(gallery, vectors, truths),
            recipe.precision_target,
            data=str(data.directory.resolve()),
            build_id=gallery.build_id,
        )
        ranking = gallery.manifest.ranking.model_copy(update={"query_penalty": strength})
        no_publish = gallery.build_id != store.current()
        return republish(
            store, gallery, no_publish=no_publish, ranking=ranking, calibration=calibration
        )


def _are_distractors(gallery: Gallery, vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which of ``n`` queries are distractors of the gallery: their penalty would say so."""
    if gallery.distractors is None:
        return np.zeros(len(vectors), np.bool_)
    return gallery.distractors.of_queries(vectors, 1) >= _DISTRACTOR_COSINE
