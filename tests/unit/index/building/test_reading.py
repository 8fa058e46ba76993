"""What of a data folder becomes a gallery, and how the rest is told."""

from __future__ import annotations

import csv
import os
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from embedder.embedder import Embedder
from embedder.errors import TooManyUnreadableError
from index.building.build import build
from index.building.embedded import Tally
from index.building.embedder_choice import EmbedderChoice
from index.building.pipeline import PipelineOptions
from index.building.rebuild import rebuild
from index.building.recipe import BuildRecipe
from index.building.shared_pictures import warn_of_shared_pictures
from index.building.unreadable import REPORT
from index.evaluation.evaluate import evaluate
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.maintenance.add import add
from index.maintenance.remove import remove
from index.review.check import check_data
from photographs import open_data
from tests.factories import photographs, picture, picture_bytes

CASES = Path(__file__).parents[5] / "shared" / "cases" / "layouts"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="no public cases beside this checkout")
MANY = BuildRecipe(max_unreadable=1.0)


def report_of(store: Store) -> list[tuple[str, str, str]]:
    """Return the lines of the report of the published gallery, without its header."""
    with (store.directory() / REPORT).open(encoding="utf-8") as file:
        return [(line["id"], line["path"], line["reason"]) for line in csv.DictReader(file)]


def landmarks_of(store: Store) -> list[str]:
    """Return the landmarks of the published gallery."""
    with closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        catalog = gallery.catalog
        return [catalog.landmark_id(n) for n in range(catalog.landmark_count)]


@needs_cases
def test_folders_of_a_nas_are_no_rows(embedder: Embedder, tmp_path: Path) -> None:
    """Six pictures of two landmarks; what is passed over is counted, and named in the report."""
    store, tally = Store(tmp_path), Tally()
    manifest = build(store, embedder, open_data(CASES / "eadir"), tally=tally)
    assert (manifest.rows, manifest.landmarks, manifest.unreadable) == (6, 2, 0)
    assert tally.passed_over == {"housekeeping folders": 4}
    names = ["#recycle", "@eaDir", "A/@eaDir", "B/@eaDir"]
    assert [(name, Path(path)) for name, path, _ in report_of(store)] == [
        ("", (CASES / "eadir").resolve() / name) for name in names
    ]


@needs_cases
def test_whatever_is_called_a_picture_is_read_or_told(
    embedder: Embedder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten rows; a TIFF is passed over, what is no HEIC is unreadable, and OnlyHeic is named."""
    store, tally = Store(tmp_path), Tally()
    manifest = build(store, embedder, open_data(CASES / "mixed"), tally=tally)
    assert (manifest.rows, manifest.landmarks, manifest.unreadable) == (10, 2, 3)
    assert tally.passed_over == {"TIFF": 1, "housekeeping folders": 1, "other files": 2}
    assert tally.missing_landmarks == 1
    assert [picture_id for picture_id, *_ in report_of(store)] == [
        *("", "", "A/IMG_1", "A/IMG_2", "OnlyHeic/IMG_3")
    ]
    assert report_of(store)[0][1:] == (
        str((CASES / "mixed").resolve() / "B/scan.tif"),
        "TIFF files are not read here",
    )
    assert "passed over in" in caplog.text
    assert "1 landmarks are not in the gallery" in caplog.text
    assert caplog.text.rstrip().endswith("OnlyHeic")


@needs_cases
def test_accents_are_alike_however_they_are_written(
    embedder: Embedder, choice: EmbedderChoice, tmp_path: Path
) -> None:
    """Queries from a Mac are judged as others are, and its folders add no landmarks."""
    store = Store(tmp_path)
    build(store, embedder, open_data(CASES / "nfc"))
    landmarks = landmarks_of(store)
    assert len(landmarks) == 6
    with closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        found = [evaluate(gallery, embedder, open_data(CASES / name))[0] for name in QUERIES]
    assert found[0].gap == found[1].gap
    assert found[0].gap is not None
    assert found[0].gap > 0.1  # of an embedder that has not learned anything
    assert found[0].map100 == found[1].map100
    add(store, choice, open_data(_labeled(CASES / "nfdq", tmp_path / "mac")))
    assert landmarks_of(store) == landmarks


QUERIES = ("nfcq", "nfdq")


def _labeled(queries: Path, target: Path) -> Path:
    """Copy the folders of a set of queries, without the pictures of no landmark."""
    for folder in filter(Path.is_dir, queries.iterdir()):
        shutil.copytree(folder, target / folder.name)
    return target


def test_landmarks_are_removed_by_either_form(
    embedder: Embedder, tmp_path: Path, data: Path
) -> None:
    """A name that a person types is decomposed on some systems."""
    (data / "landmark-0").rename(data / "S\u00e9")
    store = Store(tmp_path / "s")
    build(store, embedder, open_data(data))
    assert remove(store, landmarks=["Se\u0301"]).removed == 6


def test_a_landmark_that_disappears_is_named(
    embedder: Embedder, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not only its pictures are counted: the landmark is gone."""
    for path in (data / "landmark-3").iterdir():
        path.write_bytes(b"text")
    (data / "landmark-1/picture-1-0.jpg").write_bytes(b"text")
    tally = Tally()
    assert build(Store(tmp_path / "s"), embedder, open_data(data), MANY, tally).landmarks == 4
    assert tally.missing_landmarks == 1
    said = "1 landmarks are not in the gallery, since none of their pictures is read: landmark-3"
    assert said in caplog.text


def test_an_unchanged_folder_of_all_kinds_is_unchanged(
    store: Store, choice: EmbedderChoice, data: Path, tmp_path: Path
) -> None:
    """Each rebuild and each addition reports what there is now, once."""
    (data / "landmark-0/scan.tif").touch()
    first = rebuild(store, choice)
    assert rebuild(store, choice).build_id == first.build_id
    more = photographs(tmp_path / "more", landmarks=7, views=1)
    for known in range(6):
        shutil.rmtree(more / f"landmark-{known}")
    (more / "landmark-6/old.psd").touch()
    add(store, choice, open_data(more))
    (more / "landmark-6/old.psd").rename(more / "landmark-6/new.psd")
    for _ in range(2):
        added = add(store, choice, open_data(more))
        assert [Path(path).name for _, path, _ in report_of(store)] == ["scan.tif", "new.psd"]
        assert added.unreadable == 0


def test_a_check_tells_the_same(data: Path) -> None:
    """Before anything is built."""
    (data / "elsewhere").mkdir()
    (data / "elsewhere/scan.tif").touch()
    found = check_data(open_data(data)).summary()
    assert (found["passed_over"], found["missing_landmarks"]) == ({"TIFF": 1}, 1)


def large_picture(path: Path) -> None:
    """Write a picture of 64 x 64 pixels, more than the tests below allow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes(99, side=64))


def test_large_pictures_are_read_where_that_is_asked_for(
    embedder: Embedder, choice: EmbedderChoice, tmp_path: Path
) -> None:
    """A limit that stopped a build can be lifted, and later commands keep to it."""
    folder = tmp_path / "data"
    for number in range(3):
        (folder / "A").mkdir(parents=True, exist_ok=True)
        (folder / f"A/{number}.jpg").write_bytes(picture_bytes(number, side=32))
    large_picture(folder / "B/large.jpg")
    store = Store(tmp_path / "s")
    small, large = (
        BuildRecipe(max_unreadable=0.0, pipeline=PipelineOptions(max_pixels=n), thumbnail_side=16)
        for n in (1024, 4096)
    )
    with pytest.raises(TooManyUnreadableError):
        build(store, embedder, open_data(folder), small)
    manifest = build(store, embedder, open_data(folder), large)
    assert (manifest.rows, manifest.limits.max_pixels) == (4, 4096)
    too_large = photographs(tmp_path / "more", landmarks=1, views=1)
    assert add(store, choice, open_data(too_large)).rows == 5
    large_picture(folder / "B/larger.jpg")
    picture(7, side=65).save(folder / "B/larger.jpg")
    assert rebuild(store, choice).rows == 5
    recipe = BuildRecipe(pipeline=PipelineOptions(max_pixels=65 * 65))
    grown = rebuild(store, choice, recipe)
    assert (grown.rows, grown.limits.max_pixels) == (6, 65 * 65)
    with closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        assert gallery.thumbnails is not None
        assert all(gallery.thumbnails[row] for row in range(6))


def test_queries_may_be_as_large_as_pictures_of_the_gallery(
    embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """They are pictures of the same people and cameras."""
    options = PipelineOptions(max_pixels=32 * 32)
    pictures = [*(gldv2 / "train").rglob("*.jpg"), *(gldv2 / "test").rglob("*.jpg")]
    for number, path in enumerate(pictures):
        path.write_bytes(picture_bytes(number, side=32))
    large_picture(pictures[-1])
    store = Store(tmp_path / "s")
    build(store, embedder, open_data(gldv2), BuildRecipe(pipeline=options))
    with closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        assert evaluate(gallery, embedder, open_data(gldv2))[0].unreadable == 1
        wider = PipelineOptions(max_pixels=64 * 64)
        assert evaluate(gallery, embedder, open_data(gldv2), wider)[0].unreadable == 0


def test_a_picture_of_two_landmarks_is_told(
    store: Store,
    choice: EmbedderChoice,
    data: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One label is wrong; copies within a landmark are fine."""
    assert "several landmarks" not in caplog.text
    first = data / "landmark-0/picture-0-0.jpg"
    shutil.copy(first, data / "landmark-0/again.jpg")
    rebuild(store, choice)
    assert "several landmarks" not in caplog.text
    shutil.copy(first, data / "landmark-3/wrong.jpg")
    rebuild(store, choice)
    said = "1 pictures are in several landmarks: "
    pairs = "landmark-0/picture-0-0 (landmark-0) = landmark-3/wrong (landmark-3)"
    assert said + pairs in caplog.text
    with closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        rows = np.arange(len(gallery.catalog))
        assert warn_of_shared_pictures(gallery, rows) == 1
        assert warn_of_shared_pictures(gallery, rows[:1]) == 1  # landmark-0/again
        assert warn_of_shared_pictures(gallery, rows[9:12]) == 0


def test_landmarks_beside_another_list_are_a_gallery(
    embedder: Embedder, choice: EmbedderChoice, data: Path, tmp_path: Path
) -> None:
    """The layout is a choice, which a rebuild keeps."""
    (data / "train.csv").write_text("id,landmark_id\naaa,1\n")
    store = Store(tmp_path / "s")
    built = build(store, embedder, open_data(data, "folders"))
    assert (built.rows, built.list.layout) == (30, "folders")
    assert rebuild(store, choice).build_id == built.build_id


def test_a_pipe_and_a_foreign_name_do_not_stop_a_build(
    embedder: Embedder, data: Path, tmp_path: Path
) -> None:
    """Nobody writes to the pipe, and the name cannot be read as text."""
    os.mkfifo(data / "landmark-0/pipe.jpg")
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(data / "landmark-0/picture-0-0.jpg", data / "landmark-0" / name)
    store, tally = Store(tmp_path / "s"), Tally()
    assert build(store, embedder, open_data(data), tally=tally).rows == 30
    assert tally.passed_over == {"names not in UTF-8": 1, "special files": 1}
    assert [reason for *_, reason in report_of(store)] == [
        "its name is not text in UTF-8",
        "it is no regular file",
    ]
