"""Files are written whole or not at all, and known by their digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedder import digest
from embedder.errors import ArtifactDamagedError, ArtifactMissingError


def test_an_unaltered_file_passes(tmp_path: Path) -> None:
    """A file equals its own record."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    digest.check(path, digest.record(path), deep=True)


@pytest.mark.parametrize("altered", [b"abd", b"ab", b"abcd", b""])
def test_an_altered_file_is_refused_by_name(tmp_path: Path, altered: bytes) -> None:
    """Changed, truncated and lengthened files are refused with their name."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    expected = digest.record(path)
    path.write_bytes(altered)
    with pytest.raises(ArtifactDamagedError, match=str(path)):
        digest.check(path, expected, deep=False)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    """A file that is not there is named."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    expected = digest.record(path)
    path.unlink()
    with pytest.raises(ArtifactMissingError, match=str(path)):
        digest.check(path, expected, deep=False)


def test_a_large_file_gets_a_digest_for_each_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are digested in order, the last one shorter; the whole keeps its own digest."""
    monkeypatch.setattr(digest, "LARGE_BYTES", 10)
    monkeypatch.setattr(digest, "BLOCK_BYTES", 4)
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    record = digest.record(path)
    assert record.blocks == tuple(digest.sha256_bytes(b) for b in (b"0123", b"4567", b"89"))
    assert record.sha256 == digest.sha256_bytes(b"0123456789")


def test_a_large_file_is_read_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shallow check compares the size of a large file, a deep one every byte."""
    monkeypatch.setattr(digest, "LARGE_BYTES", 10)
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    expected = digest.record(path)
    path.write_bytes(b"0123456788")
    digest.check(path, expected, deep=False)
    with pytest.raises(ArtifactDamagedError):
        digest.check(path, expected, deep=True)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fails before the file is replaced, the old content stays and no litter."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(digest.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        digest.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
