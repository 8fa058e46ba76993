"""Rows in, the same rows out; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from embedder.errors import ArtifactDamagedError, ArtifactMismatchError, ArtifactMissingError
from index.gallery.catalog import CATALOG, Catalog, CatalogRow, CatalogWriter
from index.gallery.names import LANDMARKS
from index.gallery.names import NAMES as NAMES_1

NAMES = {"9": "Hawa Mahal", "absent": "Nowhere"}


LINKS = {"9": "https://x.example/wiki/Category:Hawa_Mahal"}


def row(landmark_id: str, picture_id: str) -> CatalogRow:
    """Make a row whose content is told by its picture id."""
    content = picture_id.encode().ljust(32, b".")
    return CatalogRow(picture_id, landmark_id, f"train/{picture_id}.jpg", content, 7, 11, 2)


ROWS = [row("9", "b"), row("9", "c"), row("10", "a"), row("Äthna", "0")]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Write four rows in two steps and open them."""
    with CatalogWriter(tmp_path, NAMES, LINKS) as writer:
        writer.add(ROWS[:1])
        writer.add([])
        writer.add(ROWS[1:])
    return Catalog.open(tmp_path)


def test_rows_come_back_as_they_were_written(catalog: Catalog) -> None:
    """Every column survives the file."""
    assert [catalog.row(number) for number in range(len(catalog))] == ROWS
    assert catalog.column("picture_id").to_pylist() == [row.picture_id for row in ROWS]


def test_codes_follow_the_order_of_landmarks(catalog: Catalog) -> None:
    """Landmark 9 is before 10, and numbers before words; unnamed ones are called by their id."""
    assert catalog.landmarks.tolist() == [0, 0, 1, 2]
    assert [catalog.landmark_id(code) for code in range(catalog.landmark_count)] == [
        "9",
        "10",
        "Äthna",
    ]
    assert [catalog.name(code) for code in range(3)] == ["Hawa Mahal", "10", "Äthna"]


def test_rows_are_found_by_content(catalog: Catalog) -> None:
    """Only rows of exactly that content are found; of none, none."""
    wanted = {ROWS[2].sha256, ROWS[0].sha256, bytes(32)}
    assert catalog.rows_of_content(wanted).tolist() == [0, 2]
    assert catalog.rows_of_content([]).tolist() == []


def test_rows_are_found_by_picture(catalog: Catalog) -> None:
    """Each by its own id although rows are sorted by landmark first; of others, none."""
    assert [catalog.rows_of_picture(row.picture_id) for row in ROWS] == [[0], [1], [2], [3]]
    assert [catalog.rows_of_picture(name) for name in ("", "aa", "z", "A")] == [[]] * 4


def test_landmarks_are_found_by_id(catalog: Catalog) -> None:
    """Those that are there, whatever else is asked for."""
    assert catalog.landmarks_of_ids(["Äthna", "9", "x", "09", ""]) == {"9": 0, "Äthna": 2}
    assert catalog.landmarks_of_ids([]) == {}


def test_a_landmark_may_have_a_link(catalog: Catalog) -> None:
    """One that has none says so."""
    assert [catalog.link(code) for code in range(3)] == [LINKS["9"], None, None]


def test_names_of_before_links_are_read(catalog: Catalog, tmp_path: Path) -> None:
    """No landmark has a link then; names and the search for them are the same."""
    ids, names = ([f(code) for code in range(3)] for f in (catalog.landmark_id, catalog.name))
    assert catalog.search_names("ATH").tolist() == [2]
    with pa.ipc.new_file(str(tmp_path / LANDMARKS), NAMES_1) as writer:
        writer.write_table(pa.table([ids, names], schema=NAMES_1))
    old = Catalog.open(tmp_path)
    assert [old.name(code) for code in range(3)] == names
    assert [old.link(code) for code in range(3)] == [None] * 3
    assert old.search_names("ATH").tolist() == [2]


FOUND = {
    "sé": ["Sé do Porto", "SEOUL Tower", "Große Straße", "Musée"],
    "SE": ["Sé do Porto", "SEOUL Tower", "Große Straße", "Musée"],
    "se\u0301": ["Sé do Porto", "SEOUL Tower", "Große Straße", "Musée"],
    "lodz": ["Łódź"],
    "strasse": ["Große Straße"],
    "zero byte": ["a\0zero byte"],
    "": ["Sé do Porto", "SEOUL Tower", "Łódź", "Große Straße", "Musée", "a\0zero byte", "10%"],
    "%": ["10%"],
    ".*": [],
    "nowhere": [],
}


@pytest.mark.parametrize("text", FOUND)
def test_names_are_searched_without_case_and_accents(tmp_path: Path, text: str) -> None:
    """Names that begin with the text come first; nothing in it is a pattern."""
    names = FOUND[""]
    with CatalogWriter(tmp_path, {str(n): name for n, name in enumerate(names)}) as writer:
        writer.add([row(str(n), "x") for n in range(len(names))])
    catalog = Catalog.open(tmp_path)
    found = [catalog.name(int(code)) for code in catalog.search_names(text)]
    assert found == FOUND[text]


@pytest.mark.parametrize(
    ("first", "second"),
    [(ROWS[1], ROWS[0]), (ROWS[2], ROWS[0]), (ROWS[0], ROWS[0])],
    ids=["picture", "landmark", "same"],
)
def test_rows_out_of_order_are_refused(
    tmp_path: Path, first: CatalogRow, second: CatalogRow
) -> None:
    """The order of rows settles ties, so it must ascend strictly."""
    with pytest.raises(ValueError, match="out of order"), CatalogWriter(tmp_path, {}) as writer:
        writer.add([first, second])


@pytest.mark.parametrize("name", [CATALOG, LANDMARKS])
def test_a_missing_or_damaged_file_is_named(catalog: Catalog, tmp_path: Path, name: str) -> None:
    """Each of the two files is refused by name: cut short, of other columns, or absent."""
    path = tmp_path / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactDamagedError, match=name):
        Catalog.open(tmp_path)
    with pa.ipc.new_file(str(path), pa.schema([("x", pa.int8())])):
        pass
    with pytest.raises(ArtifactDamagedError, match="columns"):
        Catalog.open(tmp_path)
    path.unlink()
    with pytest.raises(ArtifactMissingError, match=name):
        Catalog.open(tmp_path)


@pytest.mark.parametrize(("version", "opens"), [(None, True), ("1", True), ("2", False)])
def test_a_newer_version_is_refused_by_its_number(
    catalog: Catalog, tmp_path: Path, version: str | None, *, opens: bool
) -> None:
    """Files of before versions have none, and open."""
    path = tmp_path / CATALOG
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    assert table.schema.metadata == {b"schema_version": b"1"}
    metadata = None if version is None else {"schema_version": version}
    with pa.ipc.new_file(str(path), table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table)
    if opens:
        assert len(Catalog.open(tmp_path)) == len(catalog)
    else:
        with pytest.raises(ArtifactMismatchError, match=r"catalog\.arrow: expected 1, found 2"):
            Catalog.open(tmp_path)


def test_codes_beyond_the_landmarks_are_refused(catalog: Catalog, tmp_path: Path) -> None:
    """A catalog whose landmarks are another gallery's does not open."""
    other = tmp_path / "other"
    other.mkdir()
    with CatalogWriter(other, {}) as writer:
        writer.add(ROWS[:1])
    (other / LANDMARKS).replace(tmp_path / LANDMARKS)
    with pytest.raises(ArtifactDamagedError, match="landmark codes"):
        Catalog.open(tmp_path)
