"""Shards that are complete and current, or embedded again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embedder.errors import ArtifactDamagedError, ArtifactMismatchError, ArtifactMissingError
from embedder.picture_files import find_file
from index.building.journal import SHARD_PICTURES, Journal
from index.building.pipeline import EmbeddedBatch, ReadPicture
from photographs import Photograph


@pytest.fixture
def listed(tmp_path: Path) -> list[Photograph]:
    """List one picture more than a shard; all but the last have files."""
    (tmp_path / "d").mkdir()
    photographs = [
        Photograph(f"p{n:04d}", tmp_path / "d" / f"{n}.jpg", "1") for n in range(SHARD_PICTURES + 1)
    ]
    for photograph in photographs[:-1]:
        photograph.path.write_bytes(b"x")
    return photographs


def shard(journal: Journal, number: int) -> EmbeddedBatch:
    """Make a shard as if its pictures had been embedded."""
    photographs = journal.shard_photographs(number)
    pictures = [ReadPicture(bytes(32), *find_file(p.path), fault="") for p in photographs]
    vectors = np.random.default_rng(number).random((len(photographs), 3), np.float32)
    thumbnails = [b"jpeg", None] * (len(photographs) // 2) + [b""] * (len(photographs) % 2)
    return EmbeddedBatch(pictures, vectors, thumbnails)


def test_shards_cover_the_list(listed: list[Photograph], tmp_path: Path) -> None:
    """Every photograph is in exactly one shard; the last may be short."""
    journal = Journal(tmp_path / "j", listed, dimension=3)
    assert len(journal) == 2
    assert [*journal.shard_photographs(0), *journal.shard_photographs(1)] == listed


def test_a_shard_comes_back_as_it_was_written(listed: list[Photograph], tmp_path: Path) -> None:
    """All of it survives the file to the bit, also in another process's journal."""
    journal = Journal(tmp_path / "j", listed, dimension=3)
    written = [shard(journal, number) for number in range(2)]
    for number in range(2):
        journal.write(number, written[number])
    for number in range(2):
        found = Journal(tmp_path / "j", listed, dimension=3).read_current(number)
        assert found is not None
        assert found.pictures == written[number].pictures
        assert found.vectors.tolist() == written[number].vectors.tolist()
        assert found.thumbnails == written[number].thumbnails


def test_a_shard_of_changed_files_is_not_used(listed: list[Photograph], tmp_path: Path) -> None:
    """A file that grew, one that vanished and one that appeared each void their shard."""
    journal = Journal(tmp_path / "j", listed, dimension=3)
    for number in range(2):
        journal.write(number, shard(journal, number))
    listed[3].path.write_bytes(b"xx")
    listed[-1].path.write_bytes(b"x")
    assert journal.read_current(0) is None
    assert journal.read_current(1) is None
    journal.write(0, shard(journal, 0))
    assert journal.read_current(0) is not None
    listed[4].path.unlink()
    assert journal.read_current(0) is None


def test_a_broken_shard_is_not_used(listed: list[Photograph], tmp_path: Path) -> None:
    """Absent, truncated, or of other pictures: it is named, and embedded again."""
    journal = Journal(tmp_path / "j", listed, dimension=3)
    with pytest.raises(ArtifactMissingError):
        journal.read(0)
    journal.write(0, shard(journal, 0))
    path = next((tmp_path / "j").iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(ArtifactDamagedError, match="Arrow"):
        journal.read(0)
    assert journal.read_current(0) is None
    path.write_bytes(whole)
    with pytest.raises(ArtifactDamagedError, match="other pictures"):
        Journal(tmp_path / "j", listed[1:], dimension=3).read(0)
    with pytest.raises(ArtifactDamagedError, match="columns are not the expected"):
        Journal(tmp_path / "j", listed, dimension=4).read(0)


def rewrite(path: Path, metadata: dict[str, str] | None) -> None:
    """Write a shard again with other metadata."""
    table = pa.ipc.open_file(path.read_bytes()).read_all().replace_schema_metadata(metadata)
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def test_a_shard_without_a_version_is_of_the_first(
    listed: list[Photograph], tmp_path: Path
) -> None:
    """Those of builds that were interrupted before shards had a version are resumed."""
    journal = Journal(tmp_path / "j", listed, dimension=3)
    journal.write(0, shard(journal, 0))
    rewrite(next((tmp_path / "j").iterdir()), None)
    assert journal.read_current(0) is not None


def test_a_shard_of_a_newer_version_is_embedded_again(
    listed: list[Photograph], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the version."""
    journal = Journal(tmp_path / "j", listed, dimension=3)
    journal.write(0, shard(journal, 0))
    rewrite(next((tmp_path / "j").iterdir()), {"schema_version": "2"})
    with pytest.raises(ArtifactMismatchError, match="expected 1, found 2"):
        journal.read(0)
    assert journal.read_current(0) is None
    assert "found 2; its pictures are embedded again" in caplog.text
