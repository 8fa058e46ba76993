"""The recall that a build measures, against brute force in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedder.artifacts.arrays import unit_rows
from embedder.artifacts.files import record
from embedder.embedder import Embedder
from embedder.errors import GalleryError
from index.building.build import build
from index.building.recall import (
    EXACT,
    LADDER,
    compare,
    exact_answers,
    held_out_answers,
    measure_recall,
    reuses_codes,
)
from index.building.recipe import BuildRecipe
from index.gallery.catalog import CatalogRow, CatalogWriter
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.manifest import Segment, write_manifest
from index.gallery.store import Store
from index.search.faiss_search import write_vectors
from index.search.kinds import resolve
from index.search.neighbors import Neighbors
from photographs import open_data
from tests.unit.index.gallery.test_gallery import publish, random_rows
from tests.unit.index.search.test_kinds import DIMENSION, ROWS, landmark_rows, made


@pytest.mark.parametrize("asked", ["exact", "fastscan"])
def test_a_build_is_proved_against_exact_answers(tmp_path: Path, asked: str) -> None:
    """What the manifest says is what a comparison with brute force says."""
    rows = landmark_rows()
    rows[500] = rows[100]  # a picture that is there twice finds the other
    gallery = made(tmp_path, rows, asked)
    manifest = measure_recall(gallery)
    write_manifest(gallery.directory, manifest)
    assert manifest.recall is not None
    assert manifest.recall.queries == (1000 if asked == "fastscan" else 0)
    assert manifest.recall.class_agreement == 1.0
    assert manifest.recall.recall_at_1 > 0.99
    assert (manifest.k_factor in LADDER) == (asked == "fastscan")
    again = Gallery.open_directory(gallery.directory, embedder_digest=None)
    assert again.manifest == manifest
    held_out = np.arange(ROWS)
    truth = exact_answers(gallery.blocks(), gallery.vectors(held_out), excluded=held_out)
    again_measured = compare(held_out_answers(again, held_out), truth, again.catalog.landmarks)
    assert again_measured.queries == ROWS
    assert again_measured.class_agreement > 0.999
    assert again_measured.recall_at_1 > (0.99 if asked == "fastscan" else 1 - 1e-9)
    kept = gallery.vectors(held_out).astype(np.float64)
    similarities = kept @ kept.T
    np.fill_diagonal(similarities, -2)
    assert truth.rows.tolist() == similarities.argmax(axis=1).tolist()
    assert truth.rows[[100, 500]].tolist() == [500, 100]


def test_answers_are_compared_by_row_landmark_and_cosine() -> None:
    """A hand-worked table: right, right landmark, wrong, and another row exactly as near."""
    landmarks = np.array([0, 0, 1, 2], np.int32)
    truth = Neighbors(np.array([0, 0, 0, 0]), np.array([0.9, 0.9, 0.9, 0.9], np.float32))
    found = Neighbors(np.array([0, 1, 2, 3]), np.array([0.9, 0.8, 0.7, 0.9], np.float32))
    compared = compare(found, truth, landmarks)
    assert compared.queries == 4
    assert compared.recall_at_1 == 0.5
    assert compared.class_agreement == 0.75
    assert compared.worst_cosine_gap == pytest.approx(0.2)


def test_a_recall_below_the_floor_publishes_nothing(
    tmp_path: Path, gldv2: Path, embedder: Embedder
) -> None:
    """The refusal names both figures, and the gallery before stays the published one."""
    store, data = Store(tmp_path / "store"), open_data(gldv2)
    before = build(store, embedder, data)
    assert before.recall is not None
    assert before.recall.recall_at_1 == 1.0
    with pytest.raises(GalleryError, match=r"is 1\.0000, below the stated floor of 1\.1"):
        build(store, embedder, data, BuildRecipe(kind="exact", min_recall=1.1))
    with pytest.raises(GalleryError, match="FAISS cannot make"):
        build(store, embedder, data, BuildRecipe(kind="NoSuchThing"))
    assert store.current() == before.build_id


def test_the_floor_and_the_recall_are_named(tmp_path: Path) -> None:
    """The user reads what was asked for and what was found."""
    gallery = made(tmp_path, random_rows(ROWS, 64), "PQ2x4fs")
    with pytest.raises(GalleryError, match=r"recall@1 of PQ2x4fs.* is 0\.\d+, below .* 0\.999"):
        measure_recall(gallery, min_recall=0.999, ladder=(40, 60))
    assert measure_recall(gallery, ladder=(40, 60)).k_factor == 60


def test_a_gallery_of_one_row_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    """It is published unmeasured."""
    directory = publish(tmp_path, random_rows(1))
    gallery = Gallery.open_directory(directory, embedder_digest=None)
    assert measure_recall(gallery).recall is None


@pytest.mark.parametrize(
    ("spread", "agreement", "reused"), [(1.0, 1.0, True), (0.02, 1.0, False), (0.02, 0.1, True)]
)
def test_codes_are_reused_where_they_tell_new_rows_apart(
    tmp_path: Path, spread: float, agreement: float, *, reused: bool
) -> None:
    """Codes of other vectors give rows that lie near together the same code.

    Where they tell few rows of the gallery apart, either, new codes would be no better.
    """
    gallery = made(tmp_path, landmark_rows(), "PQ8x4fs", k_factor=200)
    rng = np.random.default_rng(5)
    center = rng.standard_normal(DIMENSION) * (spread < 1)
    rows = center + spread * rng.standard_normal((500, DIMENSION))
    folder, added = gallery.directory / "segments/1", unit_rows(rows)
    folder.mkdir(parents=True)
    write_vectors(
        folder / VECTORS,
        [added],
        rows=500,
        dimension=DIMENSION,
        kind=resolve("PQ8x4fs", 500, dimension=DIMENSION),
        codes_of=gallery.directory / VECTORS,
    )
    with CatalogWriter(folder, {}) as catalog:
        catalog.add([CatalogRow("new", str(5000 + n), "x", bytes(32), 1, 1) for n in range(500)])
    before = gallery.manifest
    update = {
        "rows": before.rows + 500,
        "recall": EXACT.model_copy(update={"class_agreement": agreement}),
        "segments": (Segment(folder="segments/1", rows=500),),
        "files": {**before.files, f"segments/1/{VECTORS}": record(folder / VECTORS)},
    }
    manifest = before.model_copy(update=update)
    grown = Gallery.of_files(gallery.directory, manifest)
    assert reuses_codes(grown, np.arange(before.rows, manifest.rows)) == reused
    if reused:
        assert not reuses_codes(grown, np.arange(before.rows, manifest.rows), min_recall=1.1)
