"""Bytes made to hurt: each is refused quickly and in words."""

from __future__ import annotations

import io
import itertools
import json
import resource
import tracemalloc
import zipfile
from collections.abc import Callable
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


@pytest.mark.parametrize("repeats", [12, 2000])
def test_a_jpeg_of_many_scans_is_refused(repeats: int) -> None:
    """A small file that would be decoded for minutes is refused before it is decoded."""
    with pytest.raises(PictureUndecodableError, match=r"scans; at most 20"):
        decode(progressive_with_scans(repeats), limits=PictureLimits())


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_an_ordinary_progressive_jpeg_is_read(mode: str) -> None:
    """The scans that encoders write are no reason to refuse; libjpeg writes 18 of CMYK."""
    data = encoded(picture(1).convert(mode), progressive=True)
    assert data.count(b"\xff\xda") == {"L": 6, "RGB": 10, "CMYK": 18}[mode]
    assert decode(data, limits=PictureLimits()).size == (64, 64)


@pytest.mark.parametrize("hiding", [b"\xff\x02", b"\xff\xd0", b"\xff\x01"])
def test_no_scan_is_hidden(hiding: bytes) -> None:
    """A marker that has no length for libjpeg hides no scans behind one."""
    data = progressive_with_scans(1)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    hidden = data[:-2] + hiding + (len(scan) * 30).to_bytes(2) + scan * 30 + b"\xff\xd9"
    with pytest.raises(PictureUndecodableError, match=r"scans|damaged"):
        decode(hidden, limits=PictureLimits())


def test_segments_without_end_are_refused() -> None:
    """Millions of empty comments are not walked over."""
    data = progressive_with_scans(1)
    with pytest.raises(PictureUndecodableError, match="segments"):
        decode(data[:2] + b"\xff\xfe\0\2" * 1_000_000 + data[2:], limits=PictureLimits())


class LeftError(Exception):
    """The client is gone."""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("error", [LeftError, OSError, SyntaxError, KeyboardInterrupt])
def test_a_check_ends_the_decoding(kind: str, error: type[BaseException]) -> None:
    """What the check raises comes through itself, whenever, whatever it is, without the pixels."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, kind)
    calls = count_checks(buffer.getvalue())
    assert calls >= (5 if kind in {"JPEG", "PNG", "GIF"} else 3)
    for last in range(calls):
        raised = error("left")
        with pytest.raises(error) as caught:
            decode(buffer.getvalue(), limits=PictureLimits(), check=raising(raised, after=last))
        assert caught.value is raised
        assert not any("image" in frame.frame.f_locals for frame in caught.traceback[1:])


def test_a_check_comes_between_scans() -> None:
    """However few bytes the scans have, each is a step of its own."""
    data = encoded(picture(1), progressive=True)
    assert count_checks(data) >= 10


def test_an_interrupted_decoding_frees_its_memory() -> None:
    """The pixels are gone while the exception is still held."""
    data = encoded(Image.new("RGB", (4000, 4000)))
    checks = count_checks(data)
    held = []
    before = resident()
    for _ in range(10):
        with pytest.raises(LeftError) as caught:
            decode(data, limits=PictureLimits(), check=raising(LeftError(), after=checks - 1))
        held.append(caught.value)
    assert resident() - before < 3 * 4 * 4000 * 4000


def encoded(image: Image.Image, **options: object) -> bytes:
    """Encode a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def raising(error: BaseException, *, after: int) -> Callable[[], None]:
    """Make a check that raises when it was called ``after`` times."""
    calls = itertools.count()

    def check() -> None:
        if next(calls) == after:
            raise error

    return check


def count_checks(data: bytes) -> int:
    """Count how often the check is called for a picture."""
    calls: list[None] = []
    decode(data, limits=PictureLimits(), check=lambda: calls.append(None))
    return len(calls)


def resident() -> int:
    """Return the bytes of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


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
    with pytest.raises(CatalogError, match="1 names not in UTF-8"):
        open_data(tmp_path).gallery()


def test_transparency_costs_no_third_copy() -> None:
    """Soft edges are blended with white."""
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert decode(buffer.getvalue(), limits=PictureLimits()).getpixel((1, 1)) == (255, 127, 127)
