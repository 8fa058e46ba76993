"""A document of an older version is read, one of a newer version is refused by its number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedder.artifacts import arrays
from embedder.artifacts.arrays import read_npz, write_npz
from embedder.artifacts.documents import read_document, write_document
from embedder.errors import ArtifactDamagedError, ArtifactMismatchError, ArtifactMissingError


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The bytes come back too, for whoever digests them."""
    path = tmp_path / "note.json"
    data = write_document(path, {"schema_version": 2, "names": ["Sé"]})
    assert path.read_bytes() == data
    assert read_document(path, "a note", newest=2) == (
        {"schema_version": 2, "names": ["Sé"]},
        data,
    )


@pytest.mark.parametrize(("version", "expected"), [(4, "2 to 3"), (1, "2 to 3"), ("new", "2 to 3")])
def test_another_version_is_refused_by_its_number(
    tmp_path: Path, version: object, expected: str
) -> None:
    """Neither a newer program's document nor one that is too old is guessed at."""
    path = tmp_path / "note.json"
    write_document(path, {"schema_version": version})
    with pytest.raises(ArtifactMismatchError, match=f"{expected}, found {version}$"):
        read_document(path, "a note", oldest=2, newest=3)


def test_a_document_without_a_version_has_the_one_that_it_is_said_to_have(tmp_path: Path) -> None:
    """Formats that had no version at first count as version 1; others are damaged."""
    path = tmp_path / "note.json"
    path.write_text("{}")
    assert read_document(path, "a note", newest=2, unversioned=1)[0] == {}
    with pytest.raises(ArtifactDamagedError, match="it is not a note"):
        read_document(path, "a note", newest=2)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", "3", "[" * 100_000])
def test_what_is_no_object_is_damaged(tmp_path: Path, text: str) -> None:
    """Whatever the bytes are, the file is named."""
    path = tmp_path / "note.json"
    path.write_text(text)
    with pytest.raises(ArtifactDamagedError, match=r"note\.json is damaged: it is not a note"):
        read_document(path, "a note", newest=1, unversioned=1)
    with pytest.raises(ArtifactMissingError):
        read_document(path / "below", "a note", newest=1)


def test_arrays_of_a_newer_version_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of this version, or of none as before, they are read without it."""
    path = tmp_path / "rows.npz"
    np.savez(path, rows=np.arange(3))
    assert read_npz(path)["rows"].tolist() == [0, 1, 2]
    write_npz(path, rows=np.arange(3))
    assert list(read_npz(path)) == ["rows"]
    monkeypatch.setattr(arrays, "NPZ_VERSION", 2)
    write_npz(path, rows=np.arange(3))
    monkeypatch.undo()
    with pytest.raises(ArtifactMismatchError, match="expected 1, found 2"):
        read_npz(path)
