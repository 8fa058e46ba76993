"""Lists are read as they were written, and names that look alike are alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedder.errors import CatalogError
from photographs import Photograph, open_data
from photographs.lists import is_by_landmark, read_list, write_csv, write_list

COMPOSED, DECOMPOSED = "S\u00e9", "Se\u0301"


@pytest.mark.parametrize("by_landmark", [True, False])
def test_a_list_is_read_as_it_was_written(tmp_path: Path, *, by_landmark: bool) -> None:
    """Commas, quotes and spaces of names survive; the order is that of a gallery."""
    listed = [("bbb", "10"), ("aaa", "10"), ("ccc", 'Arc, "le grand"'), ("ddd", "9")]
    photographs = [Photograph(name, Path(name), landmark) for name, landmark in listed]
    path = tmp_path / "list.csv"
    write_list(path, photographs, by_landmark=by_landmark)
    read = read_list(path)
    landmarks = [read.landmarks[label] for label in read.labels]
    pairs = list(zip(read.ids.to_pylist(), landmarks, strict=True))
    assert pairs == [listed[3], *listed[1::-1], listed[2]]
    assert is_by_landmark(path) is by_landmark


def test_a_list_of_unknown_landmarks_has_ids_alone(tmp_path: Path) -> None:
    """A landmark that is not known is not invented, nor is the picture left out."""
    path = tmp_path / "list.csv"
    unknown = [Photograph("aaa", Path("a"), None), Photograph("bbb", Path("b"), "9")]
    write_list(path, unknown, by_landmark=False)
    assert path.read_text() == "id\nbbb\naaa\n"
    assert not is_by_landmark(tmp_path / "missing.csv")


def test_names_that_are_not_text_are_written_as_asked(tmp_path: Path) -> None:
    """File names may hold bytes that are not UTF-8."""
    path = tmp_path / "report.csv"
    write_csv(path, ("id",), [("a\udcff",)], errors="surrogateescape")
    assert path.read_bytes() == b"id\na\xff\n"
    with pytest.raises(UnicodeEncodeError):
        write_csv(path, ("id",), [("a\udcff",)])
    assert path.read_bytes() == b"id\na\xff\n"


def test_folders_and_lists_agree_however_accents_are_written(tmp_path: Path) -> None:
    """A folder from a Mac, whose names are decomposed, shows the landmarks of the list."""
    path = tmp_path / "data" / DECOMPOSED / f"{DECOMPOSED}.jpg"
    path.parent.mkdir(parents=True)
    path.touch()
    mine = tmp_path / "mine.csv"
    mine.write_text(f"id,landmark_id\n{COMPOSED}/{DECOMPOSED},{DECOMPOSED}\n", encoding="utf-8")
    data = open_data(tmp_path / "data")
    expected = [Photograph(f"{COMPOSED}/{COMPOSED}", path, COMPOSED)]
    assert data.gallery() == data.gallery(str(mine)) == expected
    assert data.names() == {COMPOSED: COMPOSED}


def test_two_pictures_whose_names_differ_only_in_form_are_refused(tmp_path: Path) -> None:
    """They would share one id."""
    for name in (COMPOSED, DECOMPOSED):
        path = tmp_path / "data" / name / "1.jpg"
        path.parent.mkdir(parents=True)
        path.touch()
    with pytest.raises(CatalogError, match="would both have the id"):
        open_data(tmp_path / "data").gallery()
