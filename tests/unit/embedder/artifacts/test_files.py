"""Files are written whole or not at all, and known by their digest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from embedder.artifacts import files as digest
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


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_written_file_has_the_permissions_of_a_new_one(
    tmp_path: Path, umask: int, mode: int
) -> None:
    """Private where a person's files are, and open to a group where that is asked for."""
    before = os.umask(umask)
    try:
        digest.write_atomic(tmp_path / "file", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a file of four blocks, the last one short, in a world where that is large."""
    monkeypatch.setattr(digest, "BLOCK_BYTES", 4)
    monkeypatch.setattr(digest, "LARGE_BYTES", 8)
    path = tmp_path / "large"
    path.write_bytes(b"0123456789abcd")
    return path


def test_a_large_file_is_checked_block_by_block(blocks: Path) -> None:
    """After each block the caller learns how far it is, and may stop."""
    checking = digest.check_blocks(blocks, digest.record(blocks))
    assert next(checking) == 4
    assert list(checking) == [8, 12, 14]


def test_a_small_file_is_one_block(tmp_path: Path) -> None:
    """It has no digests of blocks, so its own is compared."""
    path = tmp_path / "small"
    path.write_bytes(b"abc")
    expected = digest.record(path)
    assert list(digest.check_blocks(path, expected)) == [3]
    path.write_bytes(b"abd")
    with pytest.raises(ArtifactDamagedError, match=str(path)):
        list(digest.check_blocks(path, expected))


@pytest.mark.parametrize("place", [0, 5, 13])
def test_a_flipped_bit_is_found_in_its_block(blocks: Path, place: int) -> None:
    """The blocks before it pass, and the error names the file and the place."""
    expected = digest.record(blocks)
    data = bytearray(blocks.read_bytes())
    data[place] ^= 1
    blocks.write_bytes(data)
    begin = place - place % 4
    checking = digest.check_blocks(blocks, expected)
    assert [next(checking) for _ in range(begin // 4)] == list(range(4, begin + 1, 4))
    with pytest.raises(ArtifactDamagedError, match=f"{blocks}.* at byte {begin} "):
        next(checking)


def test_a_large_file_of_another_size_is_refused_at_once(blocks: Path) -> None:
    """A truncated file, a lengthened one and an absent one do not get as far as a block."""
    expected = digest.record(blocks)
    for data in (b"0123456789abc", b"0123456789abcde"):
        blocks.write_bytes(data)
        with pytest.raises(ArtifactDamagedError, match="bytes"):
            next(digest.check_blocks(blocks, expected))
    blocks.unlink()
    with pytest.raises(ArtifactMissingError):
        next(digest.check_blocks(blocks, expected))


@pytest.mark.parametrize("size", [0, 1, 4, 8, 9, 20, 23])
def test_a_file_is_described_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Whatever its size and the pieces it is written in, as if it were read afterwards."""
    monkeypatch.setattr(digest, "BLOCK_BYTES", 4)
    monkeypatch.setattr(digest, "LARGE_BYTES", 8)
    data = bytes(range(size))
    with digest.RecordedFile(tmp_path / "file") as file:
        pieces = (data[:3], b"", memoryview(data[3:4]), data[4:])
        assert [file.write(piece) for piece in pieces] == [len(piece) for piece in pieces]
    assert file.closed
    assert (tmp_path / "file").read_bytes() == data
    assert file.record() == digest.record(tmp_path / "file")
