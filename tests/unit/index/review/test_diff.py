"""Two builds are compared: pictures, landmarks, answers."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from embedder.embedder import Embedder
from embedder.errors import ArtifactMissingError
from index.building.build import build
from index.building.recipe import BuildRecipe
from index.cli import main
from index.evaluation.calibrate import CalibrationRecipe, calibrate
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.maintenance.remove import remove
from index.review.compare import compare_answers
from index.review.diff import DiffOutput, diff
from index.review.labeled_queries import CURRENT, LabeledQueries
from photographs import open_data
from tests.factories import view_bytes
from tests.unit.index.evaluation.test_calibrate import many_queries


@pytest.fixture
def changed(store: Store, data: Path, embedder: Embedder) -> tuple[str, str]:
    """Change the photographs in every way, and build them again.

    A landmark goes, one comes, a picture of another is new, one gone, one has another content and
    one another landmark.
    """
    old = store.current()
    assert old is not None
    shutil.rmtree(data / "landmark-4")
    (data / "landmark-9").mkdir()
    (data / "landmark-9" / "first.jpg").write_bytes(view_bytes(9, 0))
    (data / "landmark-0" / "extra.jpg").write_bytes(view_bytes(0, 20))
    (data / "landmark-0" / "picture-0-0.jpg").unlink()
    (data / "landmark-1" / "picture-1-0.jpg").write_bytes(view_bytes(1, 21))
    names = [path.relative_to(data).with_suffix("") for path in sorted(data.rglob("*.jpg"))]
    lines = [f"{name},{name.parent}" for name in names]
    moved = [line.replace("picture-2-0,landmark-2", "picture-2-0,landmark-3") for line in lines]
    (data / "moved.csv").write_text("\n".join(["id,landmark_id", *moved]) + "\n")
    recipe = BuildRecipe("moved.csv", no_publish=True)
    return old, build(store, embedder, open_data(data), recipe).build_id


def test_pictures_and_landmarks_in_and_out(
    store: Store, changed: tuple[str, str], tmp_path: Path
) -> None:
    """Counted, listed in a table, and shown on a page; the other way round is the reverse."""
    old, new = changed
    output = DiffOutput(tmp_path / "new" / "diff.csv", tmp_path / "other" / "diff.html")
    found = diff(store, old, new, output=output)
    counts = (found.pictures_in, found.pictures_out, found.pictures_changed)
    assert counts == (2, 7, 2)
    assert (found.landmarks_in, found.landmarks_out) == (1, 1)
    assert (found.old, found.new, found.same_embedder, found.answers) == (old, new, True, None)
    with (tmp_path / "new" / "diff.csv").open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert sorted(row for row in rows if row[0] != "out") == [
        ("changed", "landmark-1/picture-1-0", "landmark-1"),
        ("changed", "landmark-2/picture-2-0", "landmark-3"),
        ("in", "landmark-0/extra", "landmark-0"),
        ("in", "landmark-9/first", "landmark-9"),
    ]
    assert ("out", "landmark-0/picture-0-0", "landmark-0") in rows
    assert len(rows) == 2 + 7 + 2
    page = (tmp_path / "other" / "diff.html").read_text()
    assert "Landmarks that are new: 1" in page
    assert "Pictures that are gone: 7" in page
    assert "data:image/jpeg;base64," in page
    back = diff(store, new, CURRENT)
    assert (back.pictures_in, back.pictures_out, back.landmarks_in) == (7, 2, 1)


def test_a_build_differs_from_itself_in_nothing(store: Store) -> None:
    """Removed pictures are gone, although the files of the gallery still have them."""
    old = store.current()
    assert old is not None
    same = diff(store, old, CURRENT)
    assert (same.pictures_in, same.pictures_out, same.pictures_changed) == (0, 0, 0)
    remove(store, pictures=["landmark-1/picture-1-1"], landmarks=["landmark-0"])
    fewer = diff(store, old, CURRENT)
    assert (fewer.pictures_in, fewer.pictures_out, fewer.landmarks_out) == (0, 7, 1)
    with pytest.raises(ArtifactMissingError, match="nowhere"):
        diff(store, old, "nowhere")


def test_answers_that_change_are_counted_and_shown(
    builds: tuple[Store, str, str], asked: LabeledQueries, tmp_path: Path
) -> None:
    """Right ones that become wrong first; against the answers of each gallery by itself."""
    store, good, worse = builds
    found = diff(store, good, worse, asked, DiffOutput(report=tmp_path / "diff.html"))
    answered = [asked.ask(store, build_id)[1] for build_id in (good, worse)]
    galleries = [store.directory(build_id) for build_id in (good, worse)]
    named = [
        [
            Gallery.open_directory(folder, embedder_digest=None).catalog.landmark_id(int(code))
            for code in own.answers.landmarks
        ]
        for folder, own in zip(galleries, answered, strict=True)
    ]
    triples = list(zip(*named, answered[0].queries, strict=True))
    differ = sum(before != after for before, after, _ in triples)
    broken = sum(a in q.landmark_ids and b not in q.landmark_ids for a, b, q in triples)
    assert found.answers is not None
    assert (found.answers.queries, found.answers.changed) == (4, differ)
    assert (found.answers.broken, found.answers.corrected) == (broken, 0)
    assert broken == 2
    assert found.answers.old_gap == asked.gap(store, good)
    assert found.answers.new_gap == asked.gap(store, worse)
    assert not found.same_embedder
    page = (tmp_path / "diff.html").read_text()
    assert "Answers that were right and are wrong: 2" in page
    assert "answer: 10, " in page
    back = diff(store, worse, good, asked).answers
    assert back is not None
    assert (back.corrected, back.broken) == (2, 0)


def test_an_answer_that_counts_as_known_no_more_has_changed(
    store: Store, embedder: Embedder, gldv2: Path, asked: LabeledQueries
) -> None:
    """The service says something else, although the landmark is the same."""
    many_queries(gldv2)
    plain = build(store, embedder, open_data(gldv2)).build_id
    calibrated = calibrate(store, embedder, open_data(gldv2), CalibrationRecipe(0.8)).build_id
    galleries = [
        Gallery.open(store.path, embedder_digest=None, build=b) for b in (plain, calibrated)
    ]
    answered = [asked.ask(store, b)[1] for b in (plain, calibrated)]
    changes = compare_answers((galleries[0], answered[0]), (galleries[1], answered[1]))
    calibration = galleries[1].manifest.calibration
    assert calibration is not None
    below = answered[0].answers.confidences < calibration.threshold
    assert np.array_equal(changes.changed, below)
    assert 0 < below.sum() < len(below)
    assert not changes.broken.any()


def test_the_command_compares(
    builds: tuple[Store, str, str],
    gldv2: Path,
    worse_directory: Path,
    embedder_directory: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line of JSON; queries are optional."""
    store, _, worse = builds
    words = ["diff", "CURRENT", worse, "--store", str(store.path)]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["answers"] is None
    both = ["--embedder", str(worse_directory), str(embedder_directory)]
    assert main([*words, "--data", str(gldv2), *both]) == 0
    assert json.loads(capsys.readouterr().out)["answers"]["broken"] == 2
