"""Searching, against brute force in numpy; opening, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedder.artifacts.arrays import unit_rows
from embedder.artifacts.files import record, sha256_bytes
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactMismatchError,
    ArtifactMissingError,
    NoGalleryError,
)
from index.gallery.catalog import CATALOG, CatalogRow, CatalogWriter
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.manifest import (
    MANIFEST,
    EmbedderReference,
    GalleryManifest,
    ListReference,
    read_manifest,
    write_manifest,
)
from index.gallery.names import LANDMARKS
from index.gallery.store import Store
from index.search.faiss_search import nearest, write_vectors
from index.search.neighbors import Neighbors

DIGEST = sha256_bytes(b"the embedder")
FOREIGN = sha256_bytes(b"another embedder")


def random_rows(count: int, dimension: int = 24, seed: int = 0) -> NDArray[np.float32]:
    """Draw unit rows."""
    return unit_rows(np.random.default_rng(seed).standard_normal((count, dimension)))


def publish(path: Path, rows: NDArray[np.float32], /, **changes: object) -> Path:
    """Publish a gallery of ``rows``, two to a landmark, in a store at ``path``."""
    store = Store(path)
    build_id = store.new_build_id()
    with store.writing(), store.staging(build_id) as staged:
        blocks, dimension = [rows[:5], rows[5:]], rows.shape[1]
        write_vectors(staged / VECTORS, blocks, rows=len(rows), dimension=dimension)
        with CatalogWriter(staged, {}) as catalog:
            catalog.add(
                [
                    CatalogRow(f"{row:06d}", str(row // 2), f"{row}.jpg", bytes(32), 1, 1)
                    for row in range(len(rows))
                ]
            )
        manifest = GalleryManifest(
            build_id=build_id,
            created=datetime(2026, 11, 21, tzinfo=UTC),
            rows=len(rows),
            landmarks=catalog.landmark_count,
            dimension=rows.shape[1],
            embedder=EmbedderReference(
                name="tiny", digest=DIGEST, runtime="openvino", precision="f32"
            ),
            list=ListReference(data="/data", name="train.csv", digest=DIGEST, pictures=len(rows)),
            unreadable=0,
            files={name: record(staged / name) for name in (VECTORS, CATALOG, LANDMARKS)},
        )
        write_manifest(staged, manifest.model_copy(update=changes))
        store.publish(build_id)
    return store.directory()


def brute_force(rows: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> Neighbors:
    """Order all rows, as fp16 keeps them, by similarity in float64, then by number."""
    kept = rows.astype(np.float16).astype(np.float64)
    similarities = queries.astype(np.float64) @ kept.T
    order = np.lexsort((np.broadcast_to(np.arange(len(rows)), similarities.shape), -similarities))
    first = order[:, :k]
    return Neighbors(first, np.take_along_axis(similarities, first, 1).astype(np.float32))


@pytest.mark.parametrize("k", [1, 10, 300])
def test_search_equals_brute_force(tmp_path: Path, k: int) -> None:
    """Rows and similarities are those of a float64 matrix product over the fp16 vectors."""
    rows, queries = random_rows(300), random_rows(40, seed=1)
    publish(tmp_path, rows)
    found = Gallery.open(tmp_path, embedder_digest=DIGEST).search(queries, k)
    expected = brute_force(rows, queries, k)
    assert found.rows.tolist() == expected.rows.tolist()
    np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-6)


@pytest.mark.parametrize("copies", [2, 9, 200])
@pytest.mark.parametrize("k", [1, 3])
def test_ties_go_to_the_smaller_row(tmp_path: Path, copies: int, k: int) -> None:
    """However many rows are exactly as near, the smaller landmark, then picture, comes first."""
    rows = random_rows(400)
    spots = np.sort(np.random.default_rng(2).permutation(400)[:copies])
    rows[spots] = rows[spots[0]]
    publish(tmp_path, rows)
    queries = np.vstack([rows[spots[:1]], random_rows(3, seed=3), rows[spots[:1]]])
    found = Gallery.open(tmp_path, embedder_digest=DIGEST).search(queries, k)
    for place in (0, 4):
        assert found.rows[place, : min(k, copies)].tolist() == spots[:k].tolist()
    assert found.rows.tolist() == brute_force(rows, queries, k).rows.tolist()


class LastOfEquals:
    """An index that, of rows exactly as near, keeps the last ones: FAISS promises no order."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self.rows = rows
        self.ntotal, self.d = rows.shape

    def search(
        self, x: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Order rows by similarity, then by number downwards."""
        similarities = np.einsum("nd,md->nm", x, self.rows)
        numbers = np.broadcast_to(np.arange(self.ntotal), similarities.shape)
        order = np.lexsort((-numbers, -similarities))[:, :k]
        return np.take_along_axis(similarities, order, 1), order


@pytest.mark.parametrize("copies", [7, 8, 9, 63, 64, 65, 400])
@pytest.mark.parametrize("k", [1, 3])
def test_a_tie_longer_than_was_looked_at_is_followed_to_its_end(
    tmp_path: Path, copies: int, k: int
) -> None:
    """The smaller row wins even where the index returned only larger ones at first."""
    rows = random_rows(400)
    spots = np.sort(np.random.default_rng(2).permutation(400)[:copies])
    rows[spots] = rows[spots[0]]
    publish(tmp_path, rows)
    opened = Gallery.open(tmp_path, embedder_digest=None)
    stubborn = Gallery(opened.directory, opened.manifest, LastOfEquals(rows))
    queries = np.vstack([random_rows(2, seed=3), rows[spots[:1]]])
    found = stubborn.search(queries, k)
    assert found.rows[2].tolist() == spots[:k].tolist()
    assert found.rows.shape == found.similarities.shape == (3, k)
    assert found.similarities[2].tolist() == pytest.approx([1.0] * k)


def test_similarities_are_clamped(tmp_path: Path) -> None:
    """Rounding to fp16 makes some self-similarities exceed 1; none is reported so."""
    rows = random_rows(2000, dimension=64)
    assert (np.einsum("nd,nd->n", rows, rows.astype(np.float16).astype(np.float32)) > 1).any()
    publish(tmp_path, rows)
    found = Gallery.open(tmp_path, embedder_digest=DIGEST).search(rows, 1)
    assert found.similarities.max() == 1.0
    assert found.rows[:, 0].tolist() == list(range(2000))


def test_answers_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    """A query alone finds, to the bit, what it finds among others."""
    rows, queries = random_rows(500, dimension=96), random_rows(64, dimension=96, seed=1)
    publish(tmp_path, rows)
    gallery = Gallery.open(tmp_path, embedder_digest=DIGEST, threads=1)
    together = gallery.search(queries, 5)
    for place, query in enumerate(queries):
        alone = gallery.search(query[None], 5)
        assert alone.rows[0].tolist() == together.rows[place].tolist()
        assert alone.similarities[0].tolist() == together.similarities[place].tolist()


def test_nearest_equals_brute_force_in_float32() -> None:
    """The helper for arrays follows the same rule, without the rounding to fp16."""
    rows, queries = random_rows(300), random_rows(40, seed=1)
    rows[[30, 7, 250]] = queries[0]
    found = nearest(rows, queries, 4)
    similarities = queries.astype(np.float64) @ rows.T.astype(np.float64)
    assert found.rows[0, :3].tolist() == [7, 30, 250]
    assert found.rows[1:].tolist() == np.argsort(-similarities[1:], axis=1)[:, :4].tolist()
    np.testing.assert_allclose(found.similarities[:, 0], similarities.max(1), atol=1e-6)


def test_no_queries_find_nothing(tmp_path: Path) -> None:
    """An empty batch is answered by empty arrays."""
    publish(tmp_path, random_rows(9))
    found = Gallery.open(tmp_path, embedder_digest=DIGEST).search(random_rows(0), 3)
    assert found.rows.shape == found.similarities.shape == (0, 3)


def test_programmers_mistakes_are_refused(tmp_path: Path) -> None:
    """Wrong dimension, NaN, no neighbor wanted, a closed gallery."""
    publish(tmp_path, random_rows(9))
    gallery = Gallery.open(tmp_path, embedder_digest=None)
    query = random_rows(1)
    with pytest.raises(ValueError, match="shape"):
        gallery.search(query[:, :5], 1)
    with pytest.raises(ValueError, match="finite"):
        gallery.search(query * np.nan, 1)
    with pytest.raises(ValueError, match="k must"):
        gallery.search(query, 0)
    gallery.close()
    gallery.close()
    with pytest.raises(ValueError, match="closed"):
        gallery.search(query, 1)
    with pytest.raises(ValueError, match="finite rows"):
        nearest(query[:0], query, 1)


def test_a_foreign_embedder_is_refused_with_both_digests(tmp_path: Path) -> None:
    """Vectors of two embedders cannot be compared, and silence would be wrong answers."""
    publish(tmp_path, random_rows(9))
    with pytest.raises(ArtifactMismatchError) as caught:
        Gallery.open(tmp_path, embedder_digest=FOREIGN)
    assert FOREIGN in str(caught.value)
    assert DIGEST in str(caught.value)


@pytest.mark.parametrize("name", [VECTORS, CATALOG, LANDMARKS])
@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str, damage: str) -> None:
    """Each file, missing, one byte short, or with one bit turned."""
    path = publish(tmp_path, random_rows(9)) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data if damage == "altered" else data[:-1])
    kind = ArtifactMissingError if damage == "missing" else ArtifactDamagedError
    with pytest.raises(kind, match=name):
        Gallery.open(tmp_path, embedder_digest=DIGEST)


def test_a_file_that_faiss_cannot_read_is_refused(tmp_path: Path) -> None:
    """Also where the record was made of the broken file."""
    directory = publish(tmp_path, random_rows(9))
    path = directory / VECTORS
    path.write_bytes(b"no index at all")
    text = (directory / MANIFEST).read_text()
    manifest = GalleryManifest.model_validate_json(text)
    files = {**manifest.files, VECTORS: record(path)}
    write_manifest(directory, manifest.model_copy(update={"files": files}))
    with pytest.raises(ArtifactDamagedError, match="FAISS cannot read it"):
        Gallery.open(tmp_path, embedder_digest=DIGEST)


@pytest.mark.parametrize(("field", "value"), [("rows", 10), ("dimension", 23)])
def test_files_that_contradict_the_manifest_are_refused(
    tmp_path: Path, field: str, value: int
) -> None:
    """A gallery of other rows or another dimension than stated does not open."""
    publish(tmp_path, random_rows(9), **{field: value})
    with pytest.raises(ArtifactMismatchError, match=VECTORS):
        Gallery.open(tmp_path, embedder_digest=DIGEST)


def test_a_catalog_one_row_short_is_refused(tmp_path: Path) -> None:
    """Rows and vectors are counted against each other."""
    directory = publish(tmp_path, random_rows(9))
    with CatalogWriter(directory, {}) as catalog:
        catalog.add([CatalogRow(f"{n}", "1", "x", bytes(32), 1, 1) for n in range(8)])
    manifest = GalleryManifest.model_validate_json((directory / MANIFEST).read_text())
    files = {name: record(directory / name) for name in manifest.files}
    write_manifest(directory, manifest.model_copy(update={"files": files}))
    with pytest.raises(ArtifactMismatchError, match=CATALOG):
        Gallery.open(tmp_path, embedder_digest=DIGEST)


@pytest.mark.parametrize("version", [1, 6])
def test_a_manifest_of_another_schema_is_refused(tmp_path: Path, version: int) -> None:
    """An unknown layout, older or newer, is refused by its number."""
    edit_manifest(publish(tmp_path, random_rows(9)), schema_version=version)
    with pytest.raises(ArtifactMismatchError, match=rf"schema version .* 2 to 5, found {version}$"):
        Gallery.open(tmp_path, embedder_digest=DIGEST)


@pytest.mark.parametrize(
    ("kind", "factory", "rows", "asked"),
    [
        ("exact", "SQfp16", 100_000, "auto"),
        ("exact", "SQfp16", 100_001, "exact"),
        ("fastscan", "PQ6x4fs,Refine(SQfp16)", 100_001, "auto"),
        ("fastscan", "PQ6x4fs,Refine(SQfp16)", 100_000, "fastscan"),
        ("factory", "HNSW8,Refine(SQfp16)", 9, "HNSW8,Refine(SQfp16)"),
    ],
)
def test_a_manifest_of_schema_2_opens(
    tmp_path: Path, kind: str, factory: str, rows: int, asked: str
) -> None:
    """It did not record the kind that was asked for: ``auto``, if that gives its kind."""
    directory = publish(tmp_path, random_rows(9), kind=kind, factory=factory)
    edit_manifest(directory, schema_version=2, rows=rows, asked_kind=None)
    manifest = read_manifest(directory)
    assert (manifest.schema_version, manifest.asked_kind) == (5, asked)


def edit_manifest(directory: Path, **changes: object) -> None:
    """Overwrite fields of a manifest as text; ``None`` deletes one."""
    content = json.loads((directory / MANIFEST).read_text()) | changes
    content = {key: value for key, value in content.items() if changes.get(key, ...) is not None}
    (directory / MANIFEST).write_text(json.dumps(content))


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema_version": 3}', '{"schema_version": 2}', "\x00"]
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """Whatever stands in the file, it is named and not guessed at."""
    path = publish(tmp_path, random_rows(9)) / MANIFEST
    path.write_text(text)
    with pytest.raises(ArtifactDamagedError, match=MANIFEST):
        Gallery.open(tmp_path, embedder_digest=DIGEST)


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    """A store without a published gallery names the command that makes one."""
    with pytest.raises(NoGalleryError, match="cairn-index build"):
        Gallery.open(tmp_path / "nothing", embedder_digest=DIGEST)


def test_vectors_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    """One NaN would make every similarity with its row meaningless."""
    with pytest.raises(ValueError, match="not finite"):
        write_vectors(tmp_path / "x", [random_rows(3) * np.nan], rows=3, dimension=24)
