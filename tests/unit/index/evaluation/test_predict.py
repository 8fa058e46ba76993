"""Answers in the form of a submission."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.building.build import build
from index.building.pipeline import PipelineOptions
from index.evaluation.evaluate import evaluate
from index.evaluation.metrics import Prediction, gap_of
from index.evaluation.predict import format_answer, predict
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from photographs import Photograph, list_pictures, open_data
from tests.unit.index.gallery.test_evidence import CALIBRATION, LEARNED


@pytest.fixture
def gallery(embedder: Embedder, gldv2: Path, tmp_path: Path) -> Gallery:
    """Build and open the gallery of the data folder."""
    build(Store(tmp_path / "s"), embedder, open_data(gldv2))
    return Gallery.open(tmp_path / "s", embedder_digest=embedder.digest)


def test_every_query_has_a_row_in_the_order_of_the_list(
    gallery: Gallery, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """The known queries are answered with their landmark and nine decimals of the cosine."""
    out = tmp_path / "new" / "folder" / "submission.csv"
    queries = list_pictures(gldv2 / "test.csv")
    written = predict(gallery, embedder, queries, out, PipelineOptions(batch_pictures=3))
    lines = out.read_text().splitlines()
    assert lines[0] == "id,landmarks"
    rows = [line.split(",") for line in lines[1:]]
    assert [row[0] for row in rows] == ["aaa0", "bbb0", "ccc0", "ddd0"]
    assert [row[1].split()[0] for row in rows[:3]] == ["9", "10", "700"]
    for query, row in zip(queries, rows, strict=True):
        vector = embedder.embed([embedder.prepare(query.path.read_bytes())])
        cosine = gallery.search(vector, 1).similarities.item()
        assert re.fullmatch(r"-?\d\.\d{9}", row[1].split()[1])
        assert float(row[1].split()[1]) == pytest.approx(cosine, abs=2e-6)
    assert (written.queries, written.unreadable) == (4, 0)
    assert written.report.read_text() == "id,path,reason\n"


def test_what_was_learned_from_signals_scores_answers(
    gallery: Gallery, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """A submission and the metrics hold the probability; it alone decides what is accepted.

    Here the wrong answer, whose cosine is the smallest, is the surest.
    """
    learned = LEARNED.model_copy(update={"weights": {"cosine": -20.0}, "intercept": 18.5})
    calibration = CALIBRATION.model_copy(update={"learned": learned})
    gallery.manifest = gallery.manifest.model_copy(update={"calibration": calibration})
    queries = list_pictures(gldv2 / "test.csv")
    predict(gallery, embedder, queries, tmp_path / "o.csv")
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    found = [float(row["landmarks"].split()[1]) for row in rows]
    metrics, answered = evaluate(gallery, embedder, open_data(gldv2))
    answers = answered.answers
    assert answers.scores == pytest.approx(answers.probabilities)
    assert found == pytest.approx(answers.probabilities, abs=1e-6)
    assert np.abs(answers.scores - answers.confidences).min() > 1e-3
    threshold = metrics.threshold
    assert threshold is not None
    assert (threshold.confidence, threshold.probability) == (None, 0.6)
    assert threshold.answered == np.mean(answers.probabilities >= 0.6)
    right = np.array([True, True, True, False])
    assert metrics.gap == gap_of(answers.probabilities, right, 3) == (1 / 2 + 2 / 3 + 3 / 4) / 3
    assert metrics.auroc == 0.0
    assert metrics.ladder[0].gap == metrics.gap
    assert metrics.ladder[0].ranking == "served"


def test_an_unreadable_query_has_an_empty_answer_and_a_line_in_the_report(
    gallery: Gallery, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """Its row stays, so that the submission is complete; the report says why it is empty."""
    (gldv2 / "test/b/b/b/bbb0.jpg").write_bytes(b"text")
    (gldv2 / "test/c/c/c/ccc0.jpg").unlink()
    out = tmp_path / "submission.csv"
    written = predict(gallery, embedder, list_pictures(gldv2 / "test.csv"), out)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [bool(row["landmarks"]) for row in rows] == [True, False, False, True]
    assert written.report == tmp_path / "submission.unreadable.csv"
    report = list(csv.DictReader(written.report.read_text().splitlines()))
    assert [line["id"] for line in report] == ["bbb0", "ccc0"]
    assert all(line["reason"] for line in report)
    assert written.unreadable == 2


def test_duplicate_ids_are_a_fault(
    gallery: Gallery, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """Two rows of one id would be scored as neither; nothing is written."""
    path = gldv2 / "test/a/a/a/aaa0.jpg"
    twice = [Photograph("x", path, None), Photograph("x", path, None)]
    with pytest.raises(CatalogError, match="x would have two rows"):
        predict(gallery, embedder, twice, tmp_path / "o.csv")
    (path.parent / "deeper").mkdir()
    (path.parent / "deeper" / path.name).write_bytes(path.read_bytes())
    ids = [query.id for query in list_pictures(gldv2 / "test")]
    assert len(set(ids)) == len(ids) == 5
    assert not (tmp_path / "o.csv").exists()


def test_a_folder_is_no_file_to_write(
    gallery: Gallery, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """Found before the pictures are embedded, not after."""
    with pytest.raises(CatalogError, match="it is a folder"):
        predict(gallery, embedder, list_pictures(gldv2 / "test.csv"), tmp_path)


def test_an_answer_has_nine_decimals() -> None:
    """Also a negative cosine, and none is empty."""
    assert format_answer(Prediction("q", "9", -0.1234567)) == "9 -0.123456700"
    assert format_answer(None) == ""


def test_another_precision_is_logged(
    gallery: Gallery,
    embedder_directory: Path,
    gldv2: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Vectors of two precisions are comparable, but not to the last digit."""
    queries = list_pictures(gldv2 / "test.csv")
    other = Embedder.load(embedder_directory, device="cpu", precision="auto", threads=1)
    if other.precision == gallery.manifest.embedder.precision:
        pytest.skip("this processor has no bfloat16")
    predict(gallery, other, queries, tmp_path / "o.csv")
    assert "embedded with openvino in f32, the queries with openvino in bf16" in caplog.text
