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


def test_pictures_whose_names_differ_only_in_form_are_numbered(tmp_path: Path) -> None:
    """Folders of two computers, put into one: one landmark, and no two pictures of one id."""
    files = [f"{name}/{n}.jpg" for name in (COMPOSED, DECOMPOSED) for n in (1, 2)]
    for file in (*files, f"{COMPOSED}/2.jpg#2.jpg"):
        path = tmp_path / "data" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    listed = open_data(tmp_path / "data").gallery()
    ids = ["1.jpg", "1.jpg#2", "2.jpg", "2.jpg#2", "2.jpg#3"]
    assert [p.id for p in listed] == [f"{COMPOSED}/{name}" for name in ids]
    assert listed.landmarks == [COMPOSED]
    assert len({p.path for p in listed}) == 5


def test_a_list_that_names_a_picture_in_two_forms_is_refused(tmp_path: Path) -> None:
    """They are one picture, listed twice."""
    path = tmp_path / "data" / COMPOSED / f"{COMPOSED}.jpg"
    path.parent.mkdir(parents=True)
    path.touch()
    mine = tmp_path / "mine.csv"
    rows = "".join(f"{COMPOSED}/{name},x\n" for name in (COMPOSED, DECOMPOSED))
    mine.write_text(f"id,landmark_id\n{rows}", encoding="utf-8")
    with pytest.raises(CatalogError, match=r"line 3: picture .* is listed twice"):
        open_data(tmp_path / "data").gallery(str(mine))


def test_landmarks_of_queries_are_in_the_normal_form(tmp_path: Path) -> None:
    """The truth of a query is compared with the landmarks of a gallery."""
    rows = f"id,landmarks,Usage\naaa,{DECOMPOSED} 9,Private\n"
    (tmp_path / "recognition_solution_v2.1.csv").write_text(rows, encoding="utf-8")
    assert [query.landmark_ids for query in open_data(tmp_path).queries()] == [(COMPOSED, "9")]
