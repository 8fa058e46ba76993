"""The served rule: penalties are exact, and every reader gives the same answer."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedder.embedder import Embedder
from embedder.errors import ArtifactDamagedError, CatalogError, GalleryError
from index.building.build import build
from index.building.embedder_choice import EmbedderChoice
from index.building.extras import DistractorSet, Extras
from index.building.rebuild import rebuild
from index.building.recipe import BuildRecipe
from index.evaluation.calibrate import LabeledAnswers, calibrate, fit_calibration
from index.evaluation.evaluate import evaluate
from index.evaluation.predict import predict
from index.evaluation.report import write_report
from index.gallery.distractors import MOST_LANDMARKS, OWN, PENALTIES
from index.gallery.gallery import Gallery
from index.gallery.recognize import recognize, recognize_by
from index.gallery.store import Store
from index.maintenance.add import add
from index.ranking.ranking import Ranking, mean_of_largest
from index.search.neighbors import Neighbors
from photographs import list_pictures, open_data
from service.inference.recognizer import Recognizer
from tests.factories import photographs, picture_bytes
from tests.unit.index.conftest import view_bytes


@pytest.fixture
def distractors(tmp_path: Path) -> Path:
    """Write twelve pictures that are like nothing else, and one that is none."""
    folder = tmp_path / "nothing"
    folder.mkdir()
    for number in range(12):
        (folder / f"nothing{number}.jpg").write_bytes(picture_bytes(500 + number))
    (folder / "broken.jpg").write_bytes(b"text")
    return folder


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
        self.widest = 0
        self.distractors = self
        self.smallest = float(self.penalties.min())
        self.catalog = self
        self.landmarks = np.arange(rows) // 3

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbors:
        """Find exactly, by comparing all."""
        self.widest = max(self.widest, k)
        similarities = queries @ self.rows.T
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return Neighbors(order, np.take_along_axis(similarities, order, axis=1))


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.4, 3.0])
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
        (served,) = recognizer.answer([prepared], [2])
        assert row["landmarks"] == f"{served.landmark_id} {served.confidence:.6f}"
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


def _many_queries(gldv2: Path) -> None:
    """Replace the queries by forty: thirty of the landmarks, ten of none."""
    lines = ["id,landmarks,Usage"]
    for number in range(40):
        name = f"q{number:02d}xyz"
        pattern = number % 3 if number < 30 else 40 + number
        path = gldv2 / "test" / name[0] / name[1] / name[2] / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(view_bytes(pattern, 70 + number))
        lines.append(f"{name},{('9', '10', '700')[pattern] if number < 30 else ''},Public")
    (gldv2 / "recognition_solution_v2.1.csv").write_text("\n".join(lines) + "\n")


def test_a_calibrated_gallery_knows_what_it_does_not_know(
    store: Store, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """Calibrating publishes the same files with a manifest that says more; the service uses it."""
    _many_queries(gldv2)
    before = Gallery.open(store.path, embedder_digest=embedder.digest)
    manifest = calibrate(store, embedder, open_data(gldv2), precision_target=0.8)
    gallery = Gallery.open(store.path, embedder_digest=embedder.digest)
    assert gallery.build_id == manifest.build_id != before.build_id
    assert gallery.manifest.files == before.manifest.files
    for name in manifest.files:
        assert (gallery.directory / name).samefile(before.directory / name)
    calibration = manifest.calibration
    assert calibration is not None
    assert (calibration.queries, calibration.unknown) == (40, 10)
    assert calibration.build_id == before.build_id
    recognizer = Recognizer(embedder, gallery)
    seen = [recognizer.answer([embedder.prepare(view_bytes(p, 99))], [None])[0] for p in (0, 61)]
    assert [answer.known for answer in seen] == [True, False]
    assert seen[0].probability is not None
    assert seen[1].probability is not None
    assert 1 > seen[0].probability > seen[1].probability > 0
    figures, judged = evaluate(gallery, embedder, open_data(gldv2))
    assert [rung.ranking for rung in figures.ladder] == [
        "served", "top1", "vote", "top1 - B", "top1 - C", "top1 - B+C",
    ]  # fmt: skip
    assert figures.threshold is not None
    assert figures.threshold.precision == calibration.precision >= 0.8
    assert figures.map100 is not None
    assert figures.class_sizes[0].pictures == 1
    report = tmp_path / "report" / "report.html"
    write_report(report, gallery, figures, judged)
    page = report.read_text()
    assert "data:image/jpeg;base64," in page
    assert "http" not in page


def test_a_calibration_ends_with_the_centers_that_it_was_learned_with(
    embedder: Embedder,
    embedder_directory: Path,
    gldv2: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """New landmarks move every penalized confidence; where no center moves, it stays."""
    _many_queries(gldv2)
    store, choice = Store(tmp_path / "own"), EmbedderChoice(embedder_directory, threads=1)
    ranking = Ranking(query_penalty=0.5, query_distractors=MOST_LANDMARKS)
    build(store, embedder, open_data(gldv2), BuildRecipe(extras=Extras(ranking, OWN)))
    learned = calibrate(store, embedder, open_data(gldv2), precision_target=0.8)
    assert learned.ranking.query_penalty > 0
    next(gldv2.rglob("000abc.jpg")).touch()
    kept = rebuild(store, choice)
    assert kept.build_id != learned.build_id
    assert kept.calibration == learned.calibration
    more = photographs(tmp_path / "more", landmarks=1, views=2)
    assert add(store, choice, open_data(more)).calibration is None
    assert "calibrate" in caplog.text


def test_queries_that_cannot_teach_are_refused(
    store: Store, embedder: Embedder, gldv2: Path
) -> None:
    """Too few; none of no landmark; and a gallery's own pictures are no queries."""
    data = open_data(gldv2)
    with pytest.raises(CatalogError, match="4 usable queries"):
        calibrate(store, embedder, data)
    solution = gldv2 / "recognition_solution_v2.1.csv"
    solution.write_text(solution.read_text().replace("ddd0,,", "ddd0,9,"))
    with pytest.raises(CatalogError, match="without pictures of none"):
        calibrate(store, embedder, data)
    assert len(list((store.path / "builds").iterdir())) == 1


def test_the_penalty_of_the_query_is_learned() -> None:
    """Where right and wrong are drawn from a curve of score less half the penalty."""
    rng = np.random.default_rng(3)
    scores, penalties = rng.random(40_000), rng.random(40_000)
    right = 1 / (1 + np.exp(-12 * (scores - 0.5 * penalties - 0.3))) > rng.random(40_000)
    answers = LabeledAnswers(scores, penalties, right, unknown=1)
    ranking, calibration = fit_calibration(answers, Ranking(), 0.95, data="d", build_id="b")
    assert ranking.query_penalty == pytest.approx(0.5, abs=0.02)
    assert calibration.slope == pytest.approx(12, rel=0.03)
    assert calibration.probability(0.3) == pytest.approx(0.5, abs=0.04)
    reward, _ = fit_calibration(
        LabeledAnswers(scores, -penalties, right, unknown=1), Ranking(), 0.9, data="d", build_id="b"
    )
    assert reward.query_penalty == 0.0
    mild, _ = fit_calibration(
        LabeledAnswers(scores, penalties / 4, right, unknown=1),
        Ranking(),
        0.9,
        data="d",
        build_id="b",
    )
    assert mild.query_penalty == 1.0
    with pytest.raises(GalleryError, match="all right or all wrong"):
        fit_calibration(
            LabeledAnswers(scores, penalties, right | True, unknown=1),
            Ranking(),
            0.9,
            data="d",
            build_id="b",
        )


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
