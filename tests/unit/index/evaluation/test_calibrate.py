"""Calibration by labeled queries, and which queries allow one."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.building.build import build
from index.building.embedder_choice import EmbedderChoice
from index.building.extras import DistractorSet, Extras
from index.building.rebuild import rebuild
from index.building.recipe import BuildRecipe
from index.evaluation.calibrate import CalibrationRecipe, calibrate
from index.evaluation.evaluate import evaluate
from index.evaluation.report import write_report
from index.gallery.distractors import MOST_LANDMARKS, OWN
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.maintenance.add import add
from index.ranking.ranking import Ranking
from photographs import open_data
from service.inference.recognizer import Recognizer
from tests.factories import photographs
from tests.unit.index.conftest import view_bytes


@pytest.fixture
def store(embedder: Embedder, gldv2: Path, distractors: Path, tmp_path: Path) -> Store:
    """Build a gallery that votes and has both penalties."""
    ranking = Ranking(rule="vote", gallery_penalty=0.7, query_penalty=0.4, query_distractors=3)
    found = DistractorSet.embed(distractors, embedder)
    store = Store(tmp_path / "s")
    build(store, embedder, open_data(gldv2), BuildRecipe(extras=Extras(ranking, found)))
    return store


def many_queries(gldv2: Path) -> None:
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
    many_queries(gldv2)
    before = Gallery.open(store.path, embedder_digest=embedder.digest)
    manifest = calibrate(store, embedder, open_data(gldv2), CalibrationRecipe(0.8))
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
    prepared = [embedder.prepare(view_bytes(p, 99)) for p in (0, 61)]
    seen = recognizer.search(recognizer.embed(prepared), [None, None])
    assert [answer.known for answer in seen] == [True, False]
    assert seen[0].probability is not None
    assert seen[1].probability is not None
    assert 1 > seen[0].probability > seen[1].probability > 0
    metrics, answered = evaluate(gallery, embedder, open_data(gldv2))
    assert [rung.ranking for rung in metrics.ladder] == [
        "served", "top1", "vote", "top1, reranked", "vote, reranked",
        "top1 - B", "top1 - C", "top1 - B+C",
    ]  # fmt: skip
    assert metrics.threshold is not None
    assert metrics.threshold.precision == calibration.precision >= 0.8
    assert metrics.map100 is not None
    assert metrics.class_sizes[0].pictures == 1
    report = tmp_path / "report" / "report.html"
    write_report(report, gallery, metrics, answered)
    page = report.read_text()
    assert "data:image/jpeg;base64," in page
    assert "http" not in page


def test_a_calibration_ends_with_the_centers_that_it_was_fitted_with(
    embedder: Embedder,
    embedder_directory: Path,
    gldv2: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """New landmarks move every penalized confidence; where no center moves, it stays."""
    many_queries(gldv2)
    store, choice = Store(tmp_path / "own"), EmbedderChoice(embedder_directory, threads=1)
    ranking = Ranking(query_penalty=0.5, query_distractors=MOST_LANDMARKS)
    build(store, embedder, open_data(gldv2), BuildRecipe(extras=Extras(ranking, OWN)))
    calibrated = calibrate(store, embedder, open_data(gldv2), CalibrationRecipe(0.8))
    assert calibrated.ranking.query_penalty > 0
    next(gldv2.rglob("000abc.jpg")).touch()
    kept = rebuild(store, choice)
    assert kept.build_id != calibrated.build_id
    assert kept.calibration == calibrated.calibration
    more = photographs(tmp_path / "more", landmarks=1, views=2)
    assert add(store, choice, open_data(more)).calibration is None
    assert "calibrate" in caplog.text


def test_an_unpublished_build_is_calibrated_and_stays_unpublished(
    store: Store, embedder: Embedder, gldv2: Path
) -> None:
    """What is judged before it is served is calibrated first."""
    many_queries(gldv2)
    published = store.current()
    made = build(store, embedder, open_data(gldv2), BuildRecipe(no_publish=True))
    recipe = CalibrationRecipe(0.8, made.build_id)
    manifest = calibrate(store, embedder, open_data(gldv2), recipe)
    assert manifest.calibration is not None
    assert manifest.calibration.build_id == made.build_id
    assert store.current() == published
    assert store.build_ids() == [published, made.build_id, manifest.build_id]
    assert not store.was_published(manifest.build_id)


def test_unsuitable_queries_are_refused(store: Store, embedder: Embedder, gldv2: Path) -> None:
    """Too few; none of no landmark; and a gallery's own pictures are no queries."""
    data = open_data(gldv2)
    with pytest.raises(CatalogError, match="4 usable queries"):
        calibrate(store, embedder, data)
    solution = gldv2 / "recognition_solution_v2.1.csv"
    solution.write_text(solution.read_text().replace("ddd0,,", "ddd0,9,"))
    with pytest.raises(CatalogError, match="without pictures of none"):
        calibrate(store, embedder, data)
    assert len(list((store.path / "builds").iterdir())) == 1


def test_a_distractor_is_no_query(store: Store, embedder: Embedder, gldv2: Path) -> None:
    """Its likeness to itself would tell that it shows no landmark; the others are counted."""
    many_queries(gldv2)
    opened = Gallery.open(store.path, embedder_digest=embedder.digest)
    assert opened.distractors is not None
    folder = opened.manifest.distractors
    assert folder is not None
    stranger = next(Path(folder.data).rglob("*.jpg"))
    (gldv2 / "test" / "q" / "3" / "9" / "q39xyz.jpg").write_bytes(stranger.read_bytes())
    calibration = calibrate(store, embedder, open_data(gldv2), CalibrationRecipe(0.8)).calibration
    assert calibration is not None
    assert (calibration.queries, calibration.unknown) == (39, 9)
