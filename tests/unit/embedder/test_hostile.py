"""Bytes made to hurt: each is refused quickly and in words."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedder.artifacts.arrays import read_npz, write_npz
from embedder.errors import ArtifactDamagedError, CatalogError, PictureUndecodableError
from embedder.preprocess import PictureLimits, decode, read_file
from photographs import open_data
from tests.factories import picture, picture_bytes


def progressive_with_scans(count: int) -> bytes:
    """Make a progressive JPEG and repeat its last scan."""
    buffer = io.BytesIO()
    picture(1).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def test_a_jpeg_of_many_scans_is_refused() -> None:
    """A small file that would be decoded for minutes is refused before it is decoded."""
    with pytest.raises(PictureUndecodableError, match="scans"):
        decode(progressive_with_scans(2000), limits=PictureLimits())


def test_an_ordinary_progressive_jpeg_is_read() -> None:
    """The scans that encoders write are no reason to refuse."""
    assert decode(progressive_with_scans(1), limits=PictureLimits()).size == (64, 64)


def test_a_file_is_read_only_up_to_the_limit(tmp_path: Path) -> None:
    """A huge file costs no more memory than the limit and one byte."""
    path = tmp_path / "huge.jpg"
    with path.open("wb") as file:
        file.truncate(1 << 32)
    tracemalloc.start()
    data = read_file(path, PictureLimits(max_bytes=1000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(data) == 1001
    assert peak < 1_000_000


@pytest.mark.parametrize("how", ["flipped", "plain npy", "promises", "text"])
def test_any_broken_npz_is_damaged(tmp_path: Path, how: str) -> None:
    """Whatever numpy or zipfile stumble over, the file is refused by name."""
    path = tmp_path / "golden.npz"
    write_npz(path, vectors=np.arange(4000.0))
    if how == "flipped":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    elif how == "plain npy":
        with path.open("wb") as file:
            np.save(file, np.arange(3))
    elif how == "promises":
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**13,)}
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, header)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("vectors.npy", buffer.getvalue())
    else:
        path.write_text(json.dumps({"a": 1}))
    with pytest.raises(ArtifactDamagedError, match=r"golden\.npz"):
        read_npz(path)


def test_folder_ids_never_collide(tmp_path: Path) -> None:
    """Pictures whose names differ only in extensions still have ids of their own."""
    folder = tmp_path / "A"
    folder.mkdir()
    for name in ("b.jpg", "b.png", "b.jpg.png"):
        (folder / name).write_bytes(picture_bytes(1))
    ids = [query.id for query in open_data(tmp_path).queries()]
    assert len(set(ids)) == len(ids) == 3


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """A file name that is not UTF-8 is a fault of the folder, told before any work."""
    folder = tmp_path / "A"
    folder.mkdir()
    raw = bytes(folder) + b"/caf\xe9.jpg"
    with open(raw, "wb") as file:  # noqa: PTH123 (a path of bytes)
        file.write(picture_bytes(1))
    with pytest.raises(CatalogError, match="not text in UTF-8"):
        open_data(tmp_path).gallery()


def test_transparency_costs_no_third_copy() -> None:
    """Soft edges are blended with white."""
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert decode(buffer.getvalue(), limits=PictureLimits()).getpixel((1, 1)) == (255, 127, 127)
