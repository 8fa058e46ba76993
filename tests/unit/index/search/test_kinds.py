"""Every kind of gallery, against brute force in numpy; removed rows."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from embedder.artifacts.arrays import unit_rows
from embedder.artifacts.files import record
from embedder.errors import ArtifactDamagedError, GalleryError
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.manifest import GalleryManifest, write_manifest
from index.gallery.tombstones import TOMBSTONES, Tombstones, write_tombstones
from index.search.faiss_search import open_vectors, write_vectors
from index.search.kinds import Kind, fastscan, resolve
from index.search.neighbors import Neighbors
from tests.unit.index.gallery.test_gallery import publish, random_rows

FACTORIES = ("fastscan", "IVF16,PQ8x4fs;nprobe=4", "RR32,PQ8x4fs", "HNSW8", "IVF16,SQ8", "PQ8x4fs")
ROWS, DIMENSION, VIEWS = 3000, 32, 6
ROUNDING = 2e-4
"""FAISS rounds numbers under 6e-5 to fp16 otherwise than numpy does."""


def landmark_rows(seed: int = 0) -> NDArray[np.float32]:
    """Draw unit rows of which each six in a row are near each other."""
    rng = np.random.default_rng(seed)
    centers = np.repeat(rng.standard_normal((ROWS // VIEWS, DIMENSION)), VIEWS, axis=0)
    return unit_rows(centers + 0.6 * rng.standard_normal((ROWS, DIMENSION)))


def made(path: Path, rows: NDArray[np.float32], asked: str, k_factor: int = 100) -> Gallery:
    """Publish a gallery of a kind, and open it."""
    kind = resolve(asked, len(rows), dimension=rows.shape[1])
    facts = {"kind": kind.name, "factory": kind.factory, "k_factor": k_factor}
    directory = publish(path, rows, **facts)
    n, dimension = rows.shape
    write_vectors(directory / VECTORS, [rows], rows=n, dimension=dimension, kind=kind)
    restate(directory, **facts)
    return Gallery.open_directory(directory, embedder_digest=None)


def restate(directory: Path, **changes: object) -> GalleryManifest:
    """Write the manifest anew for the files that are there now."""
    text = (directory / "manifest.json").read_text()
    manifest = GalleryManifest.model_validate_json(text)
    names = {path.name for path in directory.iterdir()} - {"manifest.json"}
    files = {name: record(directory / name) for name in names}
    manifest = manifest.model_copy(update={"files": files, **changes})
    write_manifest(directory, manifest)
    return manifest


def remove(gallery: Gallery, rows: NDArray[np.int64]) -> Gallery:
    """Put tombstones on rows of a published gallery, and open it anew."""
    write_tombstones(gallery.directory, Tombstones(rows=rows))
    restate(gallery.directory, removed=len(rows))
    return Gallery.open_directory(gallery.directory, embedder_digest=None)


def brute_force(
    rows: NDArray[np.float32], queries: NDArray[np.float32], k: int, removed: NDArray[np.int64]
) -> Neighbors:
    """Order the live rows, as fp16 keeps them, by similarity in float64, then by number."""
    similarities = queries.astype(np.float64) @ rows.astype(np.float16).astype(np.float64).T
    similarities[:, removed] = -2
    order = np.lexsort((np.broadcast_to(np.arange(len(rows)), similarities.shape), -similarities))
    first = order[:, :k]
    return Neighbors(first, np.take_along_axis(similarities, first, 1).astype(np.float32))


@pytest.mark.parametrize("asked", FACTORIES)
@pytest.mark.parametrize("k", [1, 5, 4000])
def test_similarities_are_the_exact_ones_whatever_the_kind(
    tmp_path: Path, asked: str, k: int
) -> None:
    """Candidates may miss a row, but every row found has its exact fp16 cosine."""
    rows, queries = landmark_rows(), landmark_rows(seed=1)[:200]
    gallery = made(tmp_path, rows, asked)
    found = gallery.search(queries, k)
    expected = brute_force(rows, queries, min(k, ROWS), np.empty(0, np.int64))
    assert found.rows.shape == expected.rows.shape
    assert (found.rows[:, 0] == expected.rows[:, 0]).mean() > 0.2  # IVF probes one list
    own = gallery.vectors(found.rows.reshape(-1)).reshape(*found.rows.shape, -1)
    np.testing.assert_allclose(
        found.similarities, np.einsum("nd,nkd->nk", queries, own).clip(-1, 1), atol=2e-6
    )
    assert (np.diff(found.similarities, axis=1) <= 0).all()


def test_only_candidates_are_found(tmp_path: Path) -> None:
    """A few candidates are too few for all answers, many are nearly enough."""
    rows, queries = landmark_rows(), random_rows(300, DIMENSION, seed=1)
    truth = brute_force(rows, queries, 1, np.empty(0, np.int64)).rows
    few = made(tmp_path / "few", rows, "fastscan", k_factor=32).search(queries, 1).rows
    many = made(tmp_path / "many", rows, "fastscan", k_factor=700).search(queries, 1).rows
    assert (few == truth).mean() < (many == truth).mean()
    assert (many == truth).mean() > 0.98


def test_a_query_alone_finds_what_it_finds_among_others(tmp_path: Path) -> None:
    """The kernels for few queries and for many give the same answers."""
    gallery = made(tmp_path, landmark_rows(), "fastscan", k_factor=64)
    queries = random_rows(40, DIMENSION, seed=1)
    together = gallery.search(queries, 3)
    for size in (1, 2, 3):
        parts = [gallery.search(queries[at : at + size], 3) for at in range(0, 40, size)]
        assert np.array_equal(np.concatenate([part.rows for part in parts]), together.rows)
        alone = np.concatenate([part.similarities for part in parts])
        np.testing.assert_allclose(alone, together.similarities, atol=1e-6)


@pytest.mark.parametrize("asked", ["exact", "fastscan", "HNSW8", "IVF256,Flat"])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("removed", [0, 10])
def test_what_is_found_is_the_same_while_the_disk_is_waited_for(
    tmp_path: Path, asked: str, k: int, removed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row for row and digit for digit, of one query or several, and where few are found."""
    rows = landmark_rows()
    gallery = made(tmp_path, rows, asked)
    if removed:
        gallery = remove(gallery, np.arange(removed))
    asked_for = []
    monkeypatch.setattr("index.search.engines.prefetch", lambda *of: asked_for.append(of[1]))
    for queries in (rows[:1], landmark_rows(1)[:7], rows[:200]):
        found = []
        for expected in (False, True, False):
            gallery.expect_disk(expected=expected)
            found.append(gallery.search(queries, k))
        for other in found[1:]:
            np.testing.assert_array_equal(other.rows, found[0].rows)
            np.testing.assert_array_equal(other.similarities, found[0].similarities)
    assert len(asked_for) == (0 if asked == "exact" else 2)


@pytest.mark.parametrize("asked", ["exact", "fastscan", "HNSW8"])
def test_vectors_are_mapped_and_not_read(tmp_path: Path, asked: str) -> None:
    """The file of vectors is among the mappings of the process while the gallery is open."""
    gallery = made(tmp_path, landmark_rows(), asked)
    gallery.search(landmark_rows()[:1], 1)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("the system does not list mappings")
    assert str(gallery.directory / VECTORS) in maps.read_text()


@pytest.mark.parametrize("asked", ["exact", "fastscan"])
def test_a_picture_under_two_landmarks_is_the_smaller_one(tmp_path: Path, asked: str) -> None:
    """Equal rows have equal codes, so ties are settled as in an exact gallery."""
    rows = landmark_rows()
    spots = np.array([40, 900, 901, 2999])
    rows[spots] = rows[40]
    found = made(tmp_path, rows, asked).search(rows[[40]], 3)
    assert found.rows.tolist() == [[40, 900, 901]]
    assert len(set(found.similarities[0].tolist())) == 1


@pytest.mark.parametrize("asked", ["exact", "fastscan"])
@pytest.mark.parametrize("k", [1, 5000])
@pytest.mark.parametrize("share", [0.01, 0.995])
def test_removed_rows_are_never_found(tmp_path: Path, asked: str, k: int, share: float) -> None:
    """Whatever is removed, the neighbors are those of a gallery that never had it."""
    rows, queries = landmark_rows(), landmark_rows()[::25]
    removed = np.sort(np.random.default_rng(3).permutation(ROWS)[: int(share * ROWS)])
    gallery = remove(made(tmp_path, rows, asked, k_factor=700), removed)
    assert len(gallery) == ROWS - len(removed)
    found = gallery.search(queries, k)
    expected = brute_force(rows, queries, min(k, len(gallery)), removed)
    assert not np.isin(found.rows, removed).any()
    assert found.rows.shape == expected.rows.shape
    assert (found.rows[:, 0] == expected.rows[:, 0]).mean() > (
        0.97 if asked == "fastscan" else 1 - 1e-9
    )
    if asked == "exact":
        np.testing.assert_allclose(found.similarities, expected.similarities, atol=ROUNDING)


def test_a_removed_neighborhood_is_looked_past(tmp_path: Path) -> None:
    """Where all the nearest are removed, the search widens until enough live rows remain."""
    rows = landmark_rows()
    query = rows[[77]]
    order = brute_force(rows, query, ROWS, np.empty(0, np.int64)).rows[0]
    gallery = remove(made(tmp_path, rows, "exact"), np.sort(order[:1000]))
    assert gallery.search(query, 3).rows.tolist() == [order[1000:1003].tolist()]


@pytest.mark.parametrize(
    "rows", [[5, 4], [3, 3], [-1, 2], [2, ROWS], [1], [1.0, 2.0], list(range(ROWS))]
)
def test_faulty_tombstones_are_refused(tmp_path: Path, rows: list[float]) -> None:
    """Out of order, out of range, miscounted, no numbers, or all that there is."""
    gallery = made(tmp_path, landmark_rows(), "exact")
    write_tombstones(gallery.directory, Tombstones(rows=np.array(rows)))
    restate(gallery.directory, removed=max(len(rows), 2))
    with pytest.raises(ArtifactDamagedError, match=TOMBSTONES):
        Gallery.open_directory(gallery.directory, embedder_digest=None)


def test_vectors_come_back_as_they_are_kept(tmp_path: Path) -> None:
    """Rounded to fp16, removed or not; rows that are not there are refused."""
    rows = landmark_rows()
    gallery = remove(made(tmp_path, rows, "fastscan"), np.array([7]))
    wanted = np.array([2999, 7, 0])
    kept = rows.astype(np.float16)
    np.testing.assert_allclose(gallery.vectors(wanted), kept[wanted], atol=ROUNDING)
    assert gallery.vectors(wanted[:0]).shape == (0, DIMENSION)
    for row in (-1, ROWS):
        with pytest.raises(ValueError, match="rows 0 to 2999"):
            gallery.vectors(np.array([row]))


@pytest.mark.parametrize(
    ("asked", "rows", "gpu", "name"),
    [
        ("auto", 100_000, 0, "exact"),
        ("auto", 100_001, 0, "fastscan"),
        ("auto", 4_000_000, 6 << 30, "exact"),
        ("auto", 4_000_000, 4 << 30, "fastscan"),
        ("exact", 4_000_000, 0, "exact"),
        ("SQfp16", 4_000_000, 0, "exact"),
        ("fastscan", 10, 0, "fastscan"),
        ("HNSW32,Refine(SQfp16)", 10, 0, "factory"),
    ],
)
def test_auto_goes_by_size_and_device(asked: str, rows: int, gpu: int, name: str) -> None:
    """Exact up to 100,000 rows, and at any size that fits on the GPU that searches."""
    assert resolve(asked, rows, dimension=512, gpu_bytes=gpu).name == name


@pytest.mark.parametrize("dimension", [1, 7, 8, 24, 250, 509, 512, 1280])
def test_codes_divide_the_vector(dimension: int) -> None:
    """FAISS takes only a number of codes that divides the dimension."""
    codes = int(fastscan(dimension).candidates.removeprefix("PQ").removesuffix("x4fs"))
    assert dimension % codes == 0
    assert codes == min(
        (n for n in range(1, dimension + 1) if dimension % n == 0),
        key=lambda n: abs(n - dimension / 4),
    )


def test_another_refinement_is_refused() -> None:
    """The similarities of a gallery are those of fp16."""
    with pytest.raises(GalleryError, match="another refinement"):
        resolve("PQ8x4fs,Refine(Flat)", 10, dimension=32)


@pytest.mark.parametrize("asked", ["NoSuchThing", "PQ7x4fs", "IDMap,Flat", "Flat;nprobe=3"])
def test_what_faiss_cannot_make_is_refused_in_words(tmp_path: Path, asked: str) -> None:
    """Unknown names, codes that do not divide, settings that do not fit."""
    kind = resolve(asked, 3000, dimension=DIMENSION)
    rows = landmark_rows()
    with pytest.raises(GalleryError, match="FAISS cannot make a gallery"):
        write_vectors(tmp_path / VECTORS, [rows], rows=len(rows), dimension=DIMENSION, kind=kind)


def test_kinds_are_values() -> None:
    """A kind spelled with its refinement is the same kind."""
    assert resolve("PQ8x4fs,Refine(SQfp16)", 1, dimension=32) == Kind("factory", "PQ8x4fs")


@pytest.mark.parametrize("asked", ["exact", "PQ8x4fs", "IVF4,PQ8x4fs;nprobe=2"])
@pytest.mark.parametrize("cut", [0, 1, 1999])
def test_the_file_is_that_of_faiss(tmp_path: Path, asked: str, cut: int) -> None:
    """Written in blocks, beside the codes, it is byte for byte what FAISS writes at once."""
    rows = landmark_rows()[:2000].astype(np.float16).astype(np.float32)
    count, dimension = rows.shape
    kind = resolve(asked, count, dimension=dimension)
    path = tmp_path / VECTORS
    made = write_vectors(path, [rows[:cut], rows[cut:]], rows=count, dimension=dimension, kind=kind)
    assert made == record(path)
    assert [file.name for file in tmp_path.iterdir()] == [VECTORS]
    index = faiss.IndexScalarQuantizer(
        dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.add(rows)
    if asked != "exact":
        opened = faiss.read_index(str(path))
        assert np.array_equal(opened.reconstruct_n(0, count), index.reconstruct_n(0, count))
        index = faiss.IndexRefine(faiss.downcast_index(opened.base_index), index)
    assert path.read_bytes() == faiss.serialize_index(index).tobytes()


def test_every_number_of_fp16_comes_back(tmp_path: Path) -> None:
    """What a rebuild takes over from a gallery is what was written, to the bit."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    rows = numbers[np.isfinite(numbers)].reshape(-1, 8).astype(np.float32)
    write_vectors(tmp_path / VECTORS, [rows], rows=len(rows), dimension=8)
    engine = open_vectors(tmp_path / VECTORS, k_factor=None)
    assert engine.reconstruct_batch(np.arange(len(rows))).tobytes() == rows.tobytes()


@pytest.mark.parametrize("rows", [1999, 2001])
def test_another_number_of_rows_is_refused(tmp_path: Path, rows: int) -> None:
    """The header would say so many."""
    given = landmark_rows()[:2000]
    with pytest.raises(ValueError, match=f"2000 vectors were given for {rows} rows"):
        write_vectors(tmp_path / VECTORS, [given], rows=rows, dimension=given.shape[1])
