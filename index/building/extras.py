"""Extras of a gallery beside vectors and catalog: ranking, distractors, calibration.

A build adds them when vectors and catalog are written; a later build of the same gallery takes
them over.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from embedder.artifacts.arrays import unit_rows
from embedder.artifacts.files import FileRecord, record
from embedder.embedder import Embedder
from embedder.errors import ArtifactMismatchError, CatalogError
from embedder.manifest import EmbedderManifest
from index.building.embedded import EmbeddedBatch
from index.building.pipeline import BLOCK_PICTURES, DEFAULT_OPTIONS, PipelineOptions
from index.building.query_vectors import embed_paths
from index.gallery.distractors import (
    DISTRACTORS,
    MOST_LANDMARKS,
    OWN,
    PENALTIES,
    penalties,
    write_array,
)
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.manifest import DistractorReference, GalleryManifest
from index.progress import watch_rows
from index.ranking.calibration import Calibration, needs_distractors
from index.ranking.ranking import Ranking
from index.search.faiss_search import open_vectors
from photographs import list_pictures

_log = logging.getLogger(__name__)


def advised_ranking(embedder: EmbedderManifest) -> Ranking:
    """Return the default ranking of an embedder's galleries.

    Raises:
        ArtifactMismatchError: The embedder advises an unknown ranking, or penalties, which need
            pictures of no landmark.
    """
    cause = None
    try:
        ranking = Ranking.model_validate(embedder.ranking)
    except ValidationError as error:
        cause = error
    else:
        if not ranking.penalized:
            return ranking
    known = (name for name in Ranking.model_fields if not name.endswith("_penalty"))
    raise ArtifactMismatchError(
        f"ranking advised by the embedder {embedder.name}",
        expected=f"some of {', '.join(known)}",
        found=json.dumps(embedder.ranking),
    ) from cause


@dataclass(frozen=True, slots=True)
class DistractorSet:
    """Embedded pictures of no landmark, or centers of landmarks in their place.

    Attributes:
        reference: Their entry in a manifest.
        vectors: ``(m, d)`` unit rows.
    """

    reference: DistractorReference
    vectors: NDArray[np.float32]

    @classmethod
    def embed(
        cls, source: Path, embedder: Embedder, options: PipelineOptions = DEFAULT_OPTIONS
    ) -> DistractorSet:
        """Embed the pictures of a folder or a list by the embedder of the gallery.

        Raises:
            CatalogError: There are none, or none can be read.
        """
        paths = [picture.path for picture in list_pictures(source)]
        batch = EmbeddedBatch.join(embed_paths(paths, embedder, "embed distractors", options))
        vectors = batch.vectors[batch.usable()]
        if not len(vectors):
            raise CatalogError(source, "none of its pictures can be read")
        if skipped := len(paths) - len(vectors):
            _log.warning("%d distractors of %s cannot be read; left out", skipped, source)
        reference = DistractorReference(data=str(source.resolve()), pictures=len(vectors))
        return cls(reference, vectors)

    @classmethod
    def of_landmarks(cls, gallery: Gallery) -> DistractorSet:
        """Return the centers of at most :data:`MOST_LANDMARKS` landmarks of a gallery."""
        rows = gallery.rows_by_landmark()
        order = np.random.default_rng(0).permutation(gallery.catalog.landmark_count)
        drawn = np.sort(order[:MOST_LANDMARKS]).tolist()
        centers = np.stack([gallery.vectors(rows[code]).mean(axis=0) for code in drawn])
        return cls(DistractorReference(data=OWN, pictures=len(centers)), unit_rows(centers))


@dataclass(frozen=True, slots=True)
class Extras:
    """Ranking, distractors and calibration of a gallery.

    Attributes:
        ranking: How neighbors become an answer.
        distractors: Base of the penalties; kept even if the ranking has none, so that
            ``evaluate`` can show their effect. :data:`index.gallery.distractors.OWN` recomputes
            the centers of the gallery's own landmarks in every build.
        calibration: Probability and threshold, fitted on an earlier build of the gallery.
        calibrated_with: Record of the distractors of that build; ``None`` where it had none.
    """

    ranking: Ranking = field(default_factory=Ranking)
    distractors: DistractorSet | Literal["gallery"] | None = None
    calibration: Calibration | None = None
    calibrated_with: FileRecord | None = None

    @classmethod
    def of(cls, gallery: Gallery) -> Extras:
        """Return the extras of an open gallery, for the next build of it."""
        manifest, opened = gallery.manifest, gallery.distractors
        distractors: DistractorSet | Literal["gallery"] | None = None
        if manifest.distractors is not None and opened is not None:
            own = manifest.distractors.data == OWN
            vectors = np.array(opened.vectors)
            distractors = OWN if own else DistractorSet(manifest.distractors, vectors)
        record_before = manifest.files.get(DISTRACTORS)
        return cls(manifest.ranking, distractors, manifest.calibration, record_before)


def add_extras(gallery: Gallery, extras: Extras) -> GalleryManifest:
    """Add extras to a staged gallery.

    Returns:
        Its manifest with the extras and their files; it is not written.
    """
    manifest = gallery.manifest
    update: dict[str, object] = {"ranking": extras.ranking, "calibration": extras.calibration}
    if extras.distractors is not None:
        count = extras.ranking.gallery_distractors
        update["distractors"] = _write_distractors(gallery, extras.distractors, count)
        files = {name: record(gallery.directory / name) for name in (DISTRACTORS, PENALTIES)}
        update["files"] = {**manifest.files, **files}
        update["calibration"] = _valid_calibration(extras, files[DISTRACTORS])
    return GalleryManifest.model_validate({**dict(manifest), **update})


def write_penalties(segment: Path, distractors: NDArray[np.float32], count: int) -> FileRecord:
    """Write the penalties of a segment whose vectors are written."""
    vectors = open_vectors(segment / VECTORS, k_factor=None)
    rows = np.arange(vectors.ntotal)
    blocks = (
        vectors.reconstruct_batch(rows[begin : begin + BLOCK_PICTURES])
        for begin in range(0, len(rows), BLOCK_PICTURES)
    )
    write_array(segment / PENALTIES, penalties(blocks, distractors, count))
    return record(segment / PENALTIES)


def _valid_calibration(extras: Extras, distractors: FileRecord) -> Calibration | None:
    """Drop a calibration of confidences that were penalized by other distractors."""
    calibration = extras.calibration
    if not needs_distractors(extras.ranking, calibration) or extras.calibrated_with in (
        None,
        distractors,
    ):
        return calibration
    if calibration is not None:
        _log.warning(
            "the centers of the landmarks have moved, and with them all confidences: the "
            "calibration is dropped; run cairn-index calibrate again"
        )
    return None


def _write_distractors(
    gallery: Gallery, chosen: DistractorSet | Literal["gallery"], count: int
) -> DistractorReference:
    if not isinstance(chosen, DistractorSet):
        chosen = DistractorSet.of_landmarks(gallery)
    blocks = watch_rows(gallery.blocks(), gallery.manifest.rows, "penalties")
    write_array(gallery.directory / DISTRACTORS, chosen.vectors)
    write_array(gallery.directory / PENALTIES, penalties(blocks, chosen.vectors, count))
    return chosen.reference
