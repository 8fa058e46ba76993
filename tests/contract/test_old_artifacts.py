"""What the last commit without format versions made still opens, and answers as it did."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from embedder.embedder import Embedder
from embedder.errors import TrainingError
from index.gallery.gallery import Gallery
from index.gallery.recognize import recognize
from photographs import open_data
from tests.factories import photographs
from trainer.cli import main
from trainer.recipe import load_recipe
from trainer.training.train import train

OLD = Path(__file__).parents[1] / "fixtures" / "9e31210"
EXPECTED = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))


def test_there_are_old_galleries() -> None:
    """One of each kind, so that the test below is not empty."""
    assert set(EXPECTED) == {"store", "fastscan"}


@pytest.mark.parametrize("store", EXPECTED)
def test_an_old_gallery_answers_as_it_did(store: str) -> None:
    """Rows, cosines, landmarks, confidences and probabilities are those of the old code."""
    expected, queries = EXPECTED[store], np.load(OLD / "queries.npy")
    with closing(Embedder.load(OLD / "embedder")) as embedder:
        digest = embedder.digest
    with closing(Gallery.open(OLD / store, embedder_digest=digest)) as gallery:
        found = gallery.search(queries, 5)
        answers = recognize(gallery, queries, 3)
        pictures = [[gallery.catalog.picture_id(row) for row in rows] for rows in found.rows]
        landmarks = [gallery.catalog.landmark_id(answer.landmark) for answer in answers]
        assert (gallery.build_id, len(gallery)) == (expected["build"], expected["rows"])
    assert pictures == expected["pictures"]
    assert landmarks == expected["landmarks"]
    assert np.abs(found.similarities - expected["similarities"]).max() < 1e-5
    confidences = [answer.confidence for answer in answers]
    assert confidences == pytest.approx(expected["confidences"], abs=1e-5)
    probabilities = [answer.probability for answer in answers]
    if any(value is None for value in expected["probabilities"]):
        assert probabilities == expected["probabilities"]
    else:
        assert probabilities == pytest.approx(expected["probabilities"], abs=1e-4)


def test_a_finished_old_run_exports_the_same_network(tmp_path: Path) -> None:
    """The embedder made of it today gives the vectors that the old code's export gave."""
    assert main(["export", str(OLD / "run-finished"), "--out", str(tmp_path / "embedder")]) == 0
    pictures = [path.read_bytes() for path in sorted((OLD / "pictures").iterdir())]
    with closing(Embedder.load(tmp_path / "embedder", precision="f32")) as embedder:
        vectors = embedder.embed([embedder.prepare(data) for data in pictures])
    assert len(pictures) == 4
    assert np.abs(vectors - np.load(OLD / "trained-vectors.npy")).max() < 1e-5


def test_a_finished_old_run_is_resumed_as_finished(tmp_path: Path) -> None:
    """``--resume`` of it gives its report, and trains nothing."""
    shutil.copytree(OLD / "run-finished", tmp_path / "run")
    pictures = open_data(photographs(tmp_path / "data", landmarks=8, views=6)).gallery()
    report = train(
        load_recipe(OLD / "run-finished" / "recipe.yaml"), pictures, tmp_path / "run", resume=True
    )
    old = json.loads((OLD / "run-finished" / "report.json").read_text(encoding="utf-8"))
    assert report["epochs"] == old["epochs"]


def test_an_unfinished_old_run_is_refused_in_words(tmp_path: Path) -> None:
    """Nobody can promise that its last steps would be those of the old code."""
    shutil.copytree(OLD / "run-unfinished", tmp_path / "run")
    pictures = open_data(photographs(tmp_path / "data", landmarks=8, views=6)).gallery()
    with pytest.raises(TrainingError, match="earlier version"):
        train(
            load_recipe(OLD / "run-unfinished" / "recipe.yaml"),
            pictures,
            tmp_path / "run",
            resume=True,
        )
