"""What a data folder holds beside its pictures is passed over, counted and told."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from embedder.errors import CatalogError
from photographs import list_pictures, open_data
from photographs.passed_over import HOUSEKEEPING, NOT_TEXT, OTHER, SPECIAL
from tests.factories import picture_bytes, write_tar

CASES = Path(__file__).parents[4] / "shared" / "cases" / "layouts"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="no public cases beside this checkout")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a landmark of one picture."""
    (tmp_path / "A").mkdir()
    (tmp_path / "A/1.jpg").touch()
    return tmp_path


def fill(folder: Path, *names: str | bytes) -> None:
    """Add empty files, with the folders above them."""
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))  # noqa: PTH118 (bytes)
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 (bytes)
        with open(path, "wb"):  # noqa: PTH123 (bytes)
            pass


@needs_cases
def test_folders_of_file_systems_are_no_landmarks() -> None:
    """Thumbnails and deleted files of a NAS are not pictures of anything."""
    data = open_data(CASES / "eadir")
    assert len(data.gallery()) == 6
    assert [*data.names()] == ["A", "B"]
    assert data.passed_over.counts() == {HOUSEKEEPING: 4}
    assert data.passed_over.landmarks == ()


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "@__thumb"),
        *("$RECYCLE.BIN", "System Volume Information", "RECYCLER", "lost+found", "__MACOSX"),
        *("Photos Previews.lrdata", "~snapshot"),
    ],
)
def test_each_kind_of_housekeeping_is_left_out(folder: Path, name: str) -> None:
    """At the top, and inside a landmark; and in what is predicted for."""
    fill(folder, f"{name}/1.jpg", f"A/{name}/deep/2.jpg")
    data = open_data(folder)
    assert [p.id for p in data.gallery()] == ["A/1"]
    assert data.passed_over.counts() == {HOUSEKEEPING: 2}
    assert [p.id for p in list_pictures(folder)] == ["1"]


@needs_cases
def test_what_is_not_read_is_counted_by_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every spelling of JPEG is read; without its package, HEIC is counted like TIFF."""
    monkeypatch.setattr("photographs.walk.read_formats", lambda: ("JPEG", "PNG"))
    data = open_data(CASES / "mixed")
    assert len(data.gallery()) == 10
    assert [*data.names()] == ["A", "B"]
    counts = {"HEIC": 3, "TIFF": 1, HOUSEKEEPING: 1, OTHER: 2}
    assert data.passed_over.counts() == counts
    assert data.passed_over.landmarks == ("OnlyHeic",)
    assert ("OnlyHeic/IMG_3.HEIC", "HEIC files are not read here") in data.passed_over.reasons()


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.JPEG", "a.jpe", "a.jfif", "a.JIF", "a.pjpeg", "a.png", "a.webp", "a.gif"]
)
def test_spellings_of_a_format_are_read(tmp_path: Path, name: str) -> None:
    """An extension tells the format, in capitals or not."""
    fill(tmp_path, f"A/{name}")
    assert [p.path.name for p in open_data(tmp_path).gallery()] == [name]


def test_a_name_that_is_not_utf8_stops_nothing(folder: Path) -> None:
    """It is escaped where it is told; a landmark of such pictures alone is named."""
    fill(folder, b"A/caf\xe9.jpg", b"A/caf\xe9.txt", b"B/caf\xe9.png", b"caf\xe9/1.jpg")
    data = open_data(folder)
    assert [p.id for p in data.gallery()] == ["A/1"]
    assert data.passed_over.counts() == {NOT_TEXT: 3, OTHER: 1}
    assert dict(data.passed_over.reasons()) == dict.fromkeys(
        ("A/caf\\udce9.jpg", "B/caf\\udce9.png", "caf\\udce9"), "its name is not text in UTF-8"
    )
    assert data.passed_over.landmarks == ("B",)


def test_a_folder_whose_own_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """In a sentence: its path could not be written into a gallery."""
    fill(tmp_path, b"caf\xe9/A/1.jpg")
    folder = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"caf\xe9")))  # noqa: PTH118 (bytes)
    for opened in (open_data, list_pictures):
        with pytest.raises(CatalogError, match=r"caf\\udce9: its path is not text in UTF-8"):
            opened(folder)


def test_what_is_no_file_is_passed_over(folder: Path) -> None:
    """A pipe of a picture's name; a broken link stays, to be reported as missing."""
    os.mkfifo(folder / "A/2.jpg")
    (folder / "A/3.jpg").symlink_to("nowhere")
    data = open_data(folder)
    assert [p.id for p in data.gallery()] == ["A/1", "A/3"]
    assert data.passed_over.counts() == {SPECIAL: 1}


def test_what_is_passed_over_is_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Pictures as a warning, with the landmarks that are missing; other things in passing."""
    caplog.set_level(logging.INFO)
    fill(folder, "A/notes.txt")
    open_data(folder)
    fill(folder, "A/2.tif", "B/1.tiff", "B/1.psd")
    list_pictures(folder)
    open_data(folder)
    others = f"passed over in {folder}: 1 other files"
    all_of_it = f"passed over in {folder}: 1 PSD, 2 TIFF, 1 other files"
    lost = "1 landmarks have no picture of a format that is read: B"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", others),
        ("WARNING", all_of_it),
        ("WARNING", all_of_it),
        ("WARNING", lost),
    ]


def test_members_of_tars_are_passed_over_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read here is decided when a tar is used, not when its headers are."""
    names = ["1.jpg", "2.tif", "3.heic", "@eaDir/4.jpg", "notes.txt", "caf\udce9.jpg"]
    write_tar(tmp_path / "a.tar", dict.fromkeys(names, picture_bytes(1)))
    with_heic = open_data(tmp_path)
    assert [p.id for p in with_heic.gallery()] == ["1", "3"]
    assert with_heic.passed_over.counts() == {"TIFF": 1, HOUSEKEEPING: 1, NOT_TEXT: 1}
    monkeypatch.setattr("photographs.tars.read_formats", lambda: ("JPEG",))
    without = open_data(tmp_path)
    assert [p.id for p in without.gallery()] == ["1"]
    assert without.passed_over.counts() == {"HEIC": 1, "TIFF": 1, HOUSEKEEPING: 1, NOT_TEXT: 1}


def test_an_unrelated_list_names_the_way_out(folder: Path) -> None:
    """A train.csv of something else beside landmarks is told from one of Google Landmarks."""
    (folder / "train.csv").write_text("image,label\na,b\n")
    with pytest.raises(CatalogError, match=r"no column id; it has image, label.*--layout folders"):
        open_data(folder)
    assert [p.id for p in open_data(folder, "folders").gallery()] == ["A/1"]


@pytest.mark.parametrize("layout", ["folders", "shards"])
def test_a_layout_that_is_not_there_is_refused(tmp_path: Path, layout: str) -> None:
    """Rather than that another one is taken."""
    (tmp_path / "train.csv").write_text("id,landmark_id\naaa,1\n")
    with pytest.raises(CatalogError, match=f"no pictures in the layout {layout}"):
        open_data(tmp_path, layout)  # type: ignore[arg-type]  # of a parameter
    assert open_data(tmp_path).layout == "gldv2"
