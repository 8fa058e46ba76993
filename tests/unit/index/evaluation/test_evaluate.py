"""The metrics of a gallery, and a warning where they are too good."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.building.build import build
from index.building.pipeline import PipelineOptions
from index.evaluation.evaluate import evaluate
from index.evaluation.metrics import Prediction, auroc, gap, top1_accuracy
from index.evaluation.predict import predict
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.maintenance.remove import remove
from index.search.neighbors import Neighbors
from photographs import list_pictures, open_data


@pytest.fixture
def gallery(embedder: Embedder, gldv2: Path, tmp_path: Path) -> Gallery:
    """Build and open the gallery of the data folder."""
    build(Store(tmp_path / "s"), embedder, open_data(gldv2))
    return Gallery.open(tmp_path / "s", embedder_digest=embedder.digest)


def test_metrics_are_those_of_the_submission(
    gallery: Gallery, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """Judging answers and scoring the file that ``predict`` writes give the same.

    One query that looks like a landmark is declared to show none, so that no figure is perfect.
    """
    solution = gldv2 / "recognition_solution_v2.1.csv"
    solution.write_text(solution.read_text().replace("bbb0,10,", "bbb0,,"))
    metrics, _ = evaluate(gallery, embedder, open_data(gldv2))
    out = tmp_path / "o.csv"
    predict(gallery, embedder, list_pictures(gldv2 / "test.csv"), out)
    truths = {query.id: query.landmark_ids for query in open_data(gldv2).queries()}
    rows = dict(line.split(",") for line in out.read_text().splitlines()[1:])
    answers = [Prediction(name, *_parse(words)) for name, words in rows.items()]
    known, unknown = (
        [answer.confidence for answer in answers if bool(truths[answer.query_id]) is shown]
        for shown in (True, False)
    )
    assert metrics.gap == pytest.approx(gap(answers, truths), abs=1e-6)
    assert metrics.top1 == top1_accuracy(answers, truths) == 1.0
    assert metrics.auroc == auroc(known, unknown)
    assert 0 < metrics.gap < 1
    assert 0 < metrics.auroc < 1
    assert (metrics.queries, metrics.known, metrics.unknown, metrics.unreadable) == (4, 2, 2, 0)
    assert (metrics.build_id, metrics.embedder) == (gallery.build_id, embedder.digest)


def _parse(words: str) -> tuple[str, float]:
    landmark, confidence = words.split()
    return landmark, float(confidence)


def test_a_second_evaluation_embeds_nothing(
    gallery: Gallery, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """Its figures are the same to the last digit."""
    options = PipelineOptions(cache=tmp_path / "vectors.sqlite")
    first, _ = evaluate(gallery, embedder, open_data(gldv2), options)
    second, _ = evaluate(gallery, embedder, open_data(gldv2), options)
    assert (first.embedded, second.embedded) == (4, 0)
    assert replace(second, embedded=4, search_seconds=first.search_seconds) == first
    assert 0 < first.search_seconds < 60
    written = predict(
        gallery, embedder, list_pictures(gldv2 / "test.csv"), tmp_path / "o.csv", options
    )
    assert written.embedded == 0


def test_queries_of_landmarks_that_the_gallery_lacks_are_told(
    gallery: Gallery, embedder: Embedder, gldv2: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rather than that a metric of zero is all that is said; a removed landmark lacks too."""
    assert evaluate(gallery, embedder, open_data(gldv2))[0].absent == 0
    assert "lacks" not in caplog.text
    solution = gldv2 / "recognition_solution_v2.1.csv"
    text = solution.read_text().replace("aaa0,9,", "aaa0,elsewhere,")
    solution.write_text(text.replace("ccc0,700 9,", "ccc0,9 nowhere,"))
    assert evaluate(gallery, embedder, open_data(gldv2))[0].absent == 1
    said = "1 queries show 1 landmarks that the gallery lacks, so no answer is right: elsewhere"
    assert said in caplog.text
    store = Store(gallery.directory.parents[1])
    remove(store, landmarks=["10"])
    fewer = Gallery.open(store.path, embedder_digest=None)
    assert evaluate(fewer, embedder, open_data(gldv2))[0].absent == 2
    assert "2 queries show 2 landmarks that the gallery lacks" in caplog.text
    assert caplog.text.rstrip().endswith("no answer is right: 10, elsewhere")


def test_unreadable_queries_abstain(gallery: Gallery, embedder: Embedder, gldv2: Path) -> None:
    """A known query that cannot be read is an answer missed."""
    (gldv2 / "test/a/a/a/aaa0.jpg").write_bytes(b"")
    metrics, _ = evaluate(gallery, embedder, open_data(gldv2))
    assert (metrics.unreadable, metrics.known, metrics.top1) == (1, 3, pytest.approx(2 / 3))


def test_queries_that_are_in_the_gallery_are_named(
    gallery: Gallery, embedder: Embedder, gldv2: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same file is found by its content, the same picture re-encoded by its cosine."""
    original = gldv2 / "train/0/0/0/000abc.jpg"
    again = io.BytesIO()
    Image.open(gldv2 / "train/1/2/0/120abc.jpg").save(again, "JPEG", quality=95)
    (gldv2 / "test/a/a/a/aaa0.jpg").write_bytes(original.read_bytes())
    (gldv2 / "test/b/b/b/bbb0.jpg").write_bytes(again.getvalue())
    metrics, _ = evaluate(gallery, embedder, open_data(gldv2))
    assert metrics.same_content == 1
    assert "aaa0 is the same file as 000abc" in caplog.text
    assert metrics.near_duplicates == 1
    assert "bbb0 is very near to 120abc" in caplog.text


def test_one_kind_of_queries_leaves_the_other_metrics_out(
    gallery: Gallery, embedder: Embedder, gldv2: Path
) -> None:
    """Without pictures of no landmark there is no AUROC; without known ones, only nothing."""
    solution = gldv2 / "recognition_solution_v2.1.csv"
    solution.write_text("id,landmarks,Usage\naaa0,9,Public\n")
    metrics, _ = evaluate(gallery, embedder, open_data(gldv2))
    assert (metrics.gap, metrics.top1, metrics.auroc) == (1.0, 1.0, None)
    solution.write_text("id,landmarks,Usage\nddd0,,Public\n")
    metrics, _ = evaluate(gallery, embedder, open_data(gldv2))
    assert (metrics.gap, metrics.top1, metrics.auroc) == (None, None, None)


def test_data_without_labeled_queries_is_refused(
    gallery: Gallery, embedder: Embedder, gldv2: Path
) -> None:
    """There is nothing to evaluate by."""
    (gldv2 / "recognition_solution_v2.1.csv").unlink()
    with pytest.raises(CatalogError, match="no labeled queries"):
        evaluate(gallery, embedder, open_data(gldv2))


def test_removed_pictures_count_in_no_metric(
    gallery: Gallery, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """What no search finds is not missed: mAP@100 stays 1, and groups are those of what is left."""
    before, _ = evaluate(gallery, embedder, open_data(gldv2))
    pictures = [gallery.catalog.picture_id(row) for row in (1, 2, 3)]  # of landmark 9, all but one
    store = Store(tmp_path / "s")
    remove(store, pictures=pictures)
    shrunk = Gallery.open(store.path, embedder_digest=embedder.digest)
    after, _ = evaluate(shrunk, embedder, open_data(gldv2))
    assert before.map100 == after.map100 == 1.0
    assert [(group.pictures, group.queries) for group in before.class_sizes] == [(1, 3)]
    assert [(group.pictures, group.queries) for group in after.class_sizes] == [(1, 3)]


def test_all_rankings_share_a_search(
    gallery: Gallery, embedder: Embedder, gldv2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a gallery without distractors, each query is searched once."""
    searched, search = [], Gallery.search

    def counted(self: Gallery, queries: NDArray[np.float32], k: int) -> Neighbors:
        searched.append(len(queries))
        return search(self, queries, k)

    monkeypatch.setattr(Gallery, "search", counted)
    metrics, _ = evaluate(gallery, embedder, open_data(gldv2))
    rungs = ["served", "top1", "vote", "top1, reranked", "vote, reranked"]
    assert [step.ranking for step in metrics.ladder] == rungs
    assert sum(searched) == metrics.queries
