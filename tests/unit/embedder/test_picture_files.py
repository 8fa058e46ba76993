"""A picture is read from a tar as from a file of its own."""

from __future__ import annotations

import io
import os
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from embedder.errors import PictureUndecodableError
from embedder.picture_files import find_file, member_path, open_file
from embedder.preprocess import PictureLimits, read_file
from tests.factories import picture_bytes

NAMES = ["0/0/0/0001.jpg", "long/" * 60 + "0002.jpg", "0/0/0/0003.jpg"]


@pytest.fixture(params=[tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def members(tmp_path: Path, request: pytest.FixtureRequest) -> dict[Path, bytes]:
    """Make a tar of each format; map the paths of its pictures to their bytes."""
    tar = tmp_path / "images_000.tar"
    names = NAMES if request.param != tarfile.USTAR_FORMAT else NAMES[::2]
    with tarfile.open(tar, "w", format=request.param) as archive:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            data = picture_bytes(number)
            info.size, info.mtime = len(data), 1_600_000_000 + number
            archive.addfile(info, io.BytesIO(data))
    with tarfile.open(tar) as archive:
        return {
            Path(member_path(str(tar), member.offset_data - 512, member.name)): picture_bytes(n)
            for n, member in enumerate(archive)
        }


def test_a_picture_in_a_tar_is_read_whole_and_alone(members: dict[Path, bytes]) -> None:
    """Its bytes, size, time and digest are its own, whatever its name's length."""
    assert len(members) >= 2
    for number, (path, data) in enumerate(members.items()):
        assert read_file(path, PictureLimits()) == data
        assert find_file(path) == (len(data), (1_600_000_000 + number) * 10**9)
        with open_file(path) as picture:
            assert picture.sha256() == sha256(data).digest()


def test_limits_hold_in_a_tar(members: dict[Path, bytes]) -> None:
    """One byte above the limit is read, and no more."""
    path, data = next(iter(members.items()))
    assert read_file(path, PictureLimits(max_bytes=10)) == data[:11]


def test_a_changed_tar_is_noticed(members: dict[Path, bytes], tmp_path: Path) -> None:
    """Where no picture begins any more, there is none; a shorter tar gives what it has."""
    paths, tar = list(members), tmp_path / "images_000.tar"
    content = tar.read_bytes()
    tar.write_bytes(b"x" * len(content))
    assert find_file(paths[-1]) == (-1, -1)
    with pytest.raises(PictureUndecodableError, match="tar has changed"):
        read_file(paths[-1], PictureLimits())
    tar.write_bytes(content[: content.rindex(members[paths[-1]]) + 20])
    assert read_file(paths[-1], PictureLimits()) == members[paths[-1]][:20]
    tar.unlink()
    with pytest.raises(PictureUndecodableError, match="No such file"):
        read_file(paths[-1], PictureLimits())


def test_only_tars_have_parts(tmp_path: Path) -> None:
    """A folder may have the name of a tar, and a file is no folder."""
    real = tmp_path / "x.tar" / "@0" / "1.jpg"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"abc")
    assert read_file(real, PictureLimits()) == b"abc"
    plain = tmp_path / "plain"
    plain.write_bytes(b"abc")
    assert find_file(plain / "@0" / "1.jpg") == (-1, -1)
    with pytest.raises(PictureUndecodableError, match=os.strerror(20)):
        read_file(plain / "@0" / "1.jpg", PictureLimits())


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe that nobody writes to would be waited for; a device never ends."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "device.jpg"):
        with pytest.raises(PictureUndecodableError, match="it is no regular file"):
            read_file(tmp_path / name, PictureLimits())
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(PictureUndecodableError, match="Is a directory"):
        read_file(tmp_path / "folder.jpg", PictureLimits())
