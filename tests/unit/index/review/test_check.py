"""Photographs and galleries are checked for pictures that do not belong where they are."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from embedder.embedder import Embedder
from index.building.build import build
from index.building.compact import compact
from index.building.embedder_choice import EmbedderChoice
from index.building.rebuild import rebuild
from index.cli import main
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.maintenance.remove import remove
from index.review.check import check_data, check_gallery
from index.review.check_page import write_check_page
from index.review.compare import compare_pictures
from index.review.export_vectors import export_vectors
from index.review.findings import NEAR_IDENTICAL, OUTLIER, SAME_CONTENT, Findings
from index.review.neighborhoods import measure_fits
from photographs import open_data
from tests.factories import picture
from tests.growing import segments_of_any_size
from tests.unit.index.conftest import view_bytes

VIEWS = 8


def encoded_again(path: Path, quality: int) -> bytes:
    """Encode a picture once more."""
    again = io.BytesIO()
    Image.open(path).save(again, "JPEG", quality=quality)
    return again.getvalue()


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Draw four landmarks, with one fault of each kind.

    c/copy is a file of d, d/nearly a picture of c encoded again, b/strange shows a; e has a single
    picture, f none that is read.
    """
    root = tmp_path / "faulty"
    for number, landmark in enumerate("abcd"):
        (root / landmark).mkdir(parents=True)
        for view in range(VIEWS):
            (root / landmark / f"{landmark}{view}.jpg").write_bytes(view_bytes(number, view))
    (root / "e").mkdir()
    (root / "e" / "only.jpg").write_bytes(view_bytes(8, 0))
    (root / "f").mkdir()
    (root / "f" / "scan.tif").write_bytes(b"a scan")
    (root / "a" / "notes.tiff").write_bytes(b"another")
    shutil.copy(root / "d" / "d2.jpg", root / "c" / "copy.jpg")
    (root / "d" / "nearly.jpg").write_bytes(encoded_again(root / "c" / "c1.jpg", 95))
    (root / "b" / "strange.jpg").write_bytes(view_bytes(0, 50))
    return root


def suspects(findings: Findings) -> dict[str, list[tuple[str, str]]]:
    """Return id and other id of the suspects of each reason."""
    found: dict[str, list[tuple[str, str]]] = {}
    for one in findings.suspects:
        found.setdefault(one.reason, []).append((one.picture.id, one.other.id))
    return found


def test_photographs_are_checked_without_an_embedder(faulty: Path) -> None:
    """By their contents: the landmark with more pictures is taken to be right."""
    findings = check_data(open_data(faulty))
    # c and d have nine pictures each: the first of them is taken to be right
    assert suspects(findings) == {SAME_CONTENT: [("d/d2", "c/copy")]}
    (faulty / "c" / "c7.jpg").unlink()
    findings = check_data(open_data(faulty))
    assert suspects(findings) == {SAME_CONTENT: [("c/copy", "d/d2")]}
    assert (findings.summary()["same_content"], findings.summary()["outliers"]) == (1, None)
    assert findings.single == [("e", "e")]
    assert (findings.pictures, findings.landmarks) == (4 * VIEWS + 3, 5)
    assert sum(findings.passed_over.values()) == 2
    assert list(findings.missing) == ["f"]


def test_a_gallery_is_checked_by_its_vectors(
    faulty: Path, embedder: Embedder, tmp_path: Path
) -> None:
    """The picture that fits its landmark less well is the suspect, each for one reason."""
    store = Store(tmp_path / "s")
    build(store, embedder, open_data(faulty))
    findings = check_gallery(Gallery.open(store.path, embedder_digest=None))
    found = suspects(findings)
    assert found[SAME_CONTENT] == [("c/copy", "d/d2")]
    assert found[NEAR_IDENTICAL] == [("d/nearly", "c/c1")]
    assert "b/strange" in [picture for picture, _ in found[OUTLIER]]
    strange = next(one for one in findings.suspects if one.picture.id == "b/strange")
    assert strange.other.landmark_id == "a"
    assert strange.picture.file == faulty / "b" / "strange.jpg"
    assert findings.single == [("e", "e")]
    assert findings.passed_over == {"TIFF": 2}
    assert list(findings.missing) == ["f"]
    page = tmp_path / "new" / "check.html"
    write_check_page(page, findings)
    text = page.read_text()
    assert "The same file under two landmarks: 1" in text
    assert "Landmarks with one picture: 1" in text
    assert "data:image/jpeg;base64," in text


def test_what_the_list_names_is_removed(
    faulty: Path,
    embedder: Embedder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The list of a check is what remove takes; then nothing of it is found again."""
    store, listed = Store(tmp_path / "s"), tmp_path / "lists" / "remove.csv"
    build(store, embedder, open_data(faulty))
    where = ("--store", str(store.path))
    assert main(["check", *where, "--out", str(listed), "--report", str(tmp_path / "c.html")]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["same_content"], counts["near_identical"]) == (1, 1)
    assert counts["outliers"] >= 1
    assert counts["single_picture_landmarks"] == counts["missing_landmarks"] == 1
    with listed.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"c/copy", "d/nearly", "b/strange"} <= {row["id"] for row in rows}
    assert main(["remove", *where, "--list", str(listed)]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == len({row["id"] for row in rows})
    again = check_gallery(Gallery.open(store.path, embedder_digest=None))
    assert suspects(again).keys() <= {OUTLIER}
    assert not {row["id"] for row in rows} & {one.picture.id for one in again.suspects}


def test_a_gallery_is_checked_without_its_photographs(
    faulty: Path, embedder: Embedder, tmp_path: Path
) -> None:
    """What lies beside them is then unknown; the rest is found by the gallery alone."""
    store = Store(tmp_path / "s")
    build(store, embedder, open_data(faulty))
    shutil.rmtree(faulty)
    findings = check_gallery(Gallery.open(store.path, embedder_digest=None))
    assert suspects(findings)[SAME_CONTENT] == [("c/copy", "d/d2")]
    assert (findings.passed_over, findings.missing) == ({}, [])
    write_check_page(tmp_path / "check.html", findings)
    assert "not there" in (tmp_path / "check.html").read_text()


def test_doubles_behind_many_of_their_own_landmark_are_found(
    embedder: Embedder, tmp_path: Path
) -> None:
    """Each of twenty near-identical pictures of a, and of b, is nearest to nineteen of its own."""
    root, scene = tmp_path / "burst", Image.open(io.BytesIO(view_bytes(0, 0)))
    scenes = {"a": scene, "b": Image.blend(scene, picture(777), 0.14)}
    for landmark, image in scenes.items():
        (root / landmark).mkdir(parents=True)
        for number in range(20):
            path = root / landmark / f"burst{number:02d}.jpg"
            image.save(path, quality=60 + number)
    for view in range(VIEWS):
        (root / "b" / f"b{view}.jpg").write_bytes(view_bytes(1, view))
    store = Store(tmp_path / "s")
    build(store, embedder, open_data(root))
    found = suspects(check_gallery(Gallery.open(store.path, embedder_digest=None)))
    assert [one for one, _ in found[NEAR_IDENTICAL]] == [f"b/burst{n:02d}" for n in range(20)]


def test_removed_pictures_are_not_checked(faulty: Path, embedder: Embedder, tmp_path: Path) -> None:
    """Nor do they count for what is usual in a landmark."""
    store = Store(tmp_path / "s")
    build(store, embedder, open_data(faulty))
    remove(store, pictures=["d/d2", "c/c1"], landmarks=["e"])
    gallery = Gallery.open(store.path, embedder_digest=None)
    findings = check_gallery(gallery)
    assert suspects(findings).keys() == {OUTLIER}
    assert findings.single == []
    assert findings.pictures == 4 * VIEWS + 4 - 3
    fits = measure_fits(gallery)
    for row in gallery.live_rows()[::5].tolist():
        code = gallery.catalog.landmarks[row]
        others = [n for n in gallery.live_rows() if gallery.catalog.landmarks[n] == code != -1]
        center = gallery.vectors(np.array([n for n in others if n != row])).sum(axis=0)
        expected = gallery.vectors(np.array([row]))[0] @ center / np.linalg.norm(center)
        assert fits.cosines[row] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--data", "d", "--store", "s"),
        ("--data", "d", "--build", "b"),
        ("--store", "s", "--list", "l"),
    ],
)
def test_one_thing_is_checked(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Photographs or a gallery, by the options that belong to it."""
    assert main(["check", *words]) == 6
    assert "--data DIR" in capsys.readouterr().err


def test_a_gallery_of_segments_is_checked_as_a_whole_one(
    faulty: Path,
    embedder: Embedder,
    choice: EmbedderChoice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pictures of one landmark lie in two segments, and some are removed."""
    store, held = Store(tmp_path / "s"), tmp_path / "held"
    for name in ("c/copy.jpg", "d/nearly.jpg", "b/strange.jpg", "a/a7.jpg"):
        (held / name).parent.mkdir(parents=True)
        (faulty / name).rename(held / name)
    build(store, embedder, open_data(faulty))
    for path in sorted(held.rglob("*.jpg")):
        path.rename(faulty / path.relative_to(held))
    remove(store, pictures=["a/a6"])
    with segments_of_any_size():
        build_id = rebuild(store, choice).build_id
    grown = Gallery.open(store.path, embedder_digest=None, build=build_id)
    assert grown.manifest.segments
    found = suspects(check_gallery(grown))
    assert found[SAME_CONTENT] == [("c/copy", "d/d2")]
    assert found[NEAR_IDENTICAL] == [("d/nearly", "c/c1")]
    whole = Gallery.open(store.path, embedder_digest=None, build=compact(store).build_id)
    assert not whole.manifest.segments
    assert suspects(check_gallery(whole)) == {
        reason: sorted(pairs) for reason, pairs in found.items()
    }
    pictures = compare_pictures(grown, whole)
    assert not len(pictures.added) + len(pictures.removed) + len(pictures.changed)
    tables = [
        pq.read_table(export_vectors(one, tmp_path / "v.parquet").path) for one in (grown, whole)
    ]
    assert tables[0].sort_by("picture_id").equals(tables[1].sort_by("picture_id"))
