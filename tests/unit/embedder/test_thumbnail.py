"""Thumbnails are small, upright, and hold nothing but pixels."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import ExifTags, Image, PngImagePlugin

from embedder.embedder import Embedder
from embedder.manifest import Preprocess
from embedder.preprocess import decodes_alike
from embedder.thumbnail import make_thumbnail, thumbnail_target
from tests.factories import picture, tiny_embedder

SECRET = b"51.4779 N, taken at home"


def photograph(kind: str) -> bytes:
    """Encode a picture on its side that tells in every way it can where it was taken."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.ImageDescription] = SECRET.decode()
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SECRET.decode())
    more: dict[str, object] = {
        "JPEG": {"comment": SECRET, "xmp": SECRET, "icc_profile": SECRET},
        "PNG": {"pnginfo": text, "icc_profile": SECRET},
        "WEBP": {"xmp": SECRET, "icc_profile": SECRET},
    }[kind]
    buffer = io.BytesIO()
    image = picture(1, side=400).crop((0, 0, 400, 300))
    image.save(buffer, kind, exif=exif, **more)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_nothing_but_pixels_leaves(kind: str) -> None:
    """Neither EXIF nor XMP, comments or profiles; the picture is turned upright all the same."""
    data = photograph(kind)
    assert kind == "PNG" or SECRET in data
    thumbnail = make_thumbnail(data, 128)
    assert thumbnail is not None
    assert SECRET not in thumbnail
    shown = Image.open(io.BytesIO(thumbnail))
    assert (shown.format, shown.size) == ("JPEG", (96, 128))
    assert not shown.getexif()
    assert shown.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_a_small_picture_is_not_enlarged() -> None:
    """And what is no picture has no thumbnail."""
    thumbnail = make_thumbnail(photograph("JPEG"), 1000)
    assert thumbnail is not None
    assert Image.open(io.BytesIO(thumbnail)).size == (300, 400)
    assert make_thumbnail(b"text", 128) is None


@pytest.mark.parametrize("side", [24, 64, 100, 256])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "CMYK"])
def test_one_decoding_gives_what_two_give(tmp_path: Path, side: int, kind: str) -> None:
    """Whatever the sizes of network and thumbnail, to the bit; and once where it is the same."""
    buffer = io.BytesIO()
    image = picture(3, side=400)
    if kind == "CMYK":
        image.convert("CMYK").save(buffer, "JPEG")
    else:
        image.save(buffer, kind)
    data = buffer.getvalue()
    embedder = Embedder.load(tiny_embedder(tmp_path), precision="f32", threads=1)
    prepared, thumbnail = embedder.prepare_with_thumbnail(data, side)
    (array,), (alone,) = prepared, embedder.prepare(data)
    assert array.tobytes() == alone.tobytes()
    assert thumbnail == make_thumbnail(data, side)
    alike = decodes_alike(data, [Preprocess(side=32)], [thumbnail_target(side)])
    assert alike == (kind == "JPEG" and side == 24)  # both at an eighth
