"""The served rule: penalties are exact, and every reader gives the same answer."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedder.artifacts.files import record
from embedder.embedder import Embedder
from embedder.errors import ArtifactDamagedError
from index.building.build import build
from index.building.embedder_choice import EmbedderChoice
from index.building.extras import DistractorSet, Extras
from index.building.recipe import BuildRecipe
from index.evaluation.predict import predict
from index.gallery.distractors import MOST_LANDMARKS, OWN, PENALTIES, Distractors
from index.gallery.gallery import Gallery
from index.gallery.manifest import MANIFEST, read_manifest, write_manifest
from index.gallery.recognize import recognize, recognize_by
from index.gallery.store import Store
from index.gallery.tombstones import Tombstones, write_tombstones
from index.maintenance.add import add
from index.ranking.ranking import Ranking, mean_of_largest
from index.search.neighbors import Neighbors, scan_penalized
from photographs import list_pictures, open_data
from service.inference.recognizer import Recognizer
from tests.factories import photographs
from tests.unit.index.gallery.test_gallery import publish, random_rows


@pytest.fixture
def store(embedder: Embedder, gldv2: Path, distractors: Path, tmp_path: Path) -> Store:
    """Build a gallery that votes and has both penalties."""
    ranking = Ranking(rule="vote", gallery_penalty=0.7, query_penalty=0.4, query_distractors=3)
    found = DistractorSet.embed(distractors, embedder)
    store = Store(tmp_path / "s")
    build(store, embedder, open_data(gldv2), BuildRecipe(extras=Extras(ranking, found)))
    return store


def _rows(gallery: Gallery) -> NDArray[np.float32]:
    return gallery.vectors(np.arange(len(gallery)))


def test_penalties_are_those_of_a_plain_computation(store: Store, embedder: Embedder) -> None:
    """B is the mean of the five largest cosines, C of the three that were asked for."""
    gallery = Gallery.open(store.path, embedder_digest=embedder.digest)
    assert gallery.distractors is not None
    assert gallery.distractors.vectors.shape == (12, embedder.dimension)
    cosines = np.sort(_rows(gallery) @ gallery.distractors.vectors.T, axis=1)
    np.testing.assert_allclose(gallery.distractors.penalties, cosines[:, -5:].mean(1), atol=1e-6)
    queries = _rows(gallery)[:4]
    np.testing.assert_allclose(
        gallery.distractors.of_queries(queries, 3), cosines[:4, -3:].mean(1), atol=1e-6
    )
    np.testing.assert_allclose(mean_of_largest(cosines, 99), cosines.mean(1), atol=1e-6)


def test_a_gallery_can_be_its_own_distractors(
    embedder: Embedder, embedder_directory: Path, gldv2: Path, tmp_path: Path
) -> None:
    """Each center is the mean of its landmark, all of them count, and each build has its own."""
    store, more = Store(tmp_path / "own"), photographs(tmp_path / "more", landmarks=1, views=2)
    ranking = Ranking(gallery_distractors=MOST_LANDMARKS, query_distractors=MOST_LANDMARKS)
    recipe = BuildRecipe(extras=Extras(ranking, OWN))
    build(store, embedder, open_data(gldv2), recipe)
    assert _means_of_own_centers(store) == 3
    add(store, EmbedderChoice(embedder_directory, threads=1), open_data(more))
    assert _means_of_own_centers(store) == 4


def _means_of_own_centers(store: Store) -> int:
    """Compare what a gallery keeps with a plain computation, and count its landmarks."""
    gallery = Gallery.open(store.path, embedder_digest=None)
    assert gallery.manifest.distractors is not None
    assert gallery.distractors is not None
    rows, codes = _rows(gallery), gallery.catalog.landmarks
    means = np.stack([rows[codes == code].mean(axis=0) for code in np.unique(codes)])
    centers = means / np.linalg.norm(means, axis=1, keepdims=True)
    costs = (rows @ centers.T).mean(axis=1)
    np.testing.assert_allclose(gallery.distractors.vectors, centers, atol=1e-6)
    np.testing.assert_allclose(gallery.distractors.penalties, costs, atol=1e-6)
    assert gallery.manifest.distractors.data == OWN
    return gallery.manifest.distractors.pictures


class Narrow:
    """A gallery of random rows that counts how far it was asked to look."""

    def __init__(self, rows: int, spread: float) -> None:
        """Give rows of two numbers, and penalties up to ``spread``."""
        rng = np.random.default_rng(7)
        self.rows = rng.normal(size=(rows, 8)).astype(np.float32)
        self.rows /= np.linalg.norm(self.rows, axis=1, keepdims=True)
        self.penalties = (spread * rng.random(rows)).astype(np.float32)
        self.widest = self.scanned = 0
        self.distractors = self
        self.smallest = float(self.penalties.min())
        self.catalog = self
        self.landmarks = np.arange(rows) // 3
        self.order = None

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbors:
        """Find exactly, by comparing all."""
        self.widest = max(self.widest, k)
        similarities = queries @ self.rows.T
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return Neighbors(order, np.take_along_axis(similarities, order, axis=1))

    def scan(
        self, queries: NDArray[np.float32], k: int, penalties: NDArray[np.float32]
    ) -> Neighbors:
        """Compare all rows, in blocks of 300."""
        self.scanned += len(queries)
        blocks = (self.rows[start : start + 300] for start in range(0, len(self), 300))
        rows = scan_penalized(blocks, queries, min(k, len(self)), penalties)
        return Neighbors(rows, np.einsum("nd,nkd->nk", queries, self.rows[rows]))


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.4, 3.0, 40.0])
@pytest.mark.parametrize("k", [1, 10, 5000])
def test_the_penalized_neighbors_are_exact(spread: float, k: int) -> None:
    """They are those of comparing all rows, however far the penalties carry the winner."""
    gallery = Narrow(2000, spread)
    queries = np.random.default_rng(8).normal(size=(40, 8)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    ranking = Ranking(gallery_penalty=1.0)
    found = recognize_by(ranking, gallery, queries, k)  # type: ignore[arg-type]  # a gallery's face
    scores = queries @ gallery.rows.T - gallery.penalties
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert [answer.rows.tolist() for answer in found] == order.tolist()
    best = scores.max(axis=1)
    np.testing.assert_allclose([answer.confidence for answer in found], best, atol=1e-6)
    if spread <= 0.05 and k == 1:
        assert gallery.widest < 2000  # it is proved without looking at all of them
        assert gallery.scanned == 0
    assert gallery.widest <= min(k, 2000) + 1024
    if spread == 40.0 and k == 10:
        assert gallery.scanned > 0  # its rows are far down the neighbors
    if k == 5000:
        assert gallery.scanned == 0  # a search has seen them all


@pytest.mark.parametrize("spread", [0.01, 0.3, 40.0])
@pytest.mark.parametrize("removed", [0, 500])
def test_the_penalized_neighbors_of_a_gallery_are_those_of_brute_force(
    tmp_path: Path, spread: float, removed: int
) -> None:
    """Over fp16 vectors, equal rows and tombstones; each row and score, in the same order."""
    rng = np.random.default_rng(5)
    rows = random_rows(1800, dimension=16)
    rows[1500:] = rows[:300]
    directory = publish(tmp_path, rows)
    removed_rows = np.sort(rng.permutation(1800)[:removed])
    write_tombstones(directory, Tombstones(rows=removed_rows))
    gallery = Gallery.open_directory(restated(directory, removed=removed), embedder_digest=None)
    penalties = (spread * rng.random(1800)).astype(np.float32)
    penalties[1500:] = penalties[:300]
    gallery.distractors = Distractors(rows[:1], penalties, float(penalties.min()))
    queries = random_rows(300, dimension=16, seed=6)
    kept = rows.astype(np.float16).astype(np.float64)
    scores = queries.astype(np.float64) @ kept.T - penalties
    scores[:, removed_rows] = -np.inf
    order = np.argsort(-scores.round(6), axis=1, kind="stable")[:, :7]
    found = recognize_by(Ranking(gallery_penalty=1.0), gallery, queries, 7)
    assert [answer.rows.tolist() for answer in found] == order.tolist()
    best = scores.max(axis=1)
    np.testing.assert_allclose([answer.confidence for answer in found], best, atol=1e-6)


def restated(directory: Path, **changes: object) -> Path:
    """Write the manifest anew for the files that are there now."""
    manifest = read_manifest(directory)
    names = {path.name for path in directory.iterdir()} - {MANIFEST}
    files = {name: record(directory / name) for name in names}
    write_manifest(directory, manifest.model_copy(update={"files": files, **changes}))
    return directory


def test_every_reader_gives_the_same_answer(
    store: Store, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """Predictions over files, the service and a plain computation agree."""
    gallery = Gallery.open(store.path, embedder_digest=embedder.digest)
    assert gallery.distractors is not None
    predict(gallery, embedder, list_pictures(gldv2 / "test.csv"), tmp_path / "o.csv")
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    recognizer = Recognizer(embedder, gallery)
    for row in rows:
        name = row["id"]
        prepared = embedder.prepare(
            (gldv2 / f"test/{name[0]}/{name[1]}/{name[2]}/{name}.jpg").read_bytes()
        )
        (served,) = recognizer.search(recognizer.embed([prepared]), [2])
        landmark, confidence = row["landmarks"].split()
        assert landmark == served.landmark_id
        assert float(confidence) == pytest.approx(served.confidence, abs=1e-6)
        vector = embedder.embed([prepared])[0]
        scores = _rows(gallery) @ vector - np.float32(0.7) * gallery.distractors.penalties
        nearest = np.argsort(-scores)[:5]
        votes: dict[str, float] = {}
        for near in nearest.tolist():
            landmark = gallery.catalog.row(near).landmark_id
            votes[landmark] = votes.get(landmark, 0.0) + max(0.0, float(scores[near])) ** 8
        cost = 0.4 * np.sort(gallery.distractors.vectors @ vector)[-3:].mean()
        strength = (max(votes.values()) / 5) ** (1 / 8)
        assert served.confidence == pytest.approx(strength - cost, abs=1e-5)
        assert served.neighbors is not None
        assert served.neighbors[0].picture == gallery.catalog.picture_id(int(nearest[0]))


def test_without_a_calibration_nothing_is_claimed(store: Store, embedder: Embedder) -> None:
    """Neither a probability nor known."""
    gallery = Gallery.open(store.path, embedder_digest=embedder.digest)
    (answer,) = recognize(gallery, _rows(gallery)[:1])
    assert (answer.probability, answer.known) == (None, None)


def test_penalties_of_another_gallery_are_refused(store: Store, embedder: Embedder) -> None:
    """One penalty short: the file does not belong to these rows."""
    path = store.directory() / PENALTIES
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ArtifactDamagedError, match="penalties"):
        Gallery.open(store.path, embedder_digest=embedder.digest)
