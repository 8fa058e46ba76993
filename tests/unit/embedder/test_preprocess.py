"""Bytes of any kind become an upright RGB picture or a refusal in words."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from embedder.errors import (
    PictureError,
    PictureFormatError,
    PictureTooLargeError,
    PictureUndecodableError,
)
from embedder.manifest import Fit, Interpolation, Preprocess
from embedder.preprocess import PictureLimits, decode, resized_size, to_array, to_square
from tests.factories import picture, picture_bytes

LIMITS = PictureLimits()


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def huge_png_header() -> bytes:
    """Make a PNG of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_every_format_gives_an_rgb_picture(kind: str) -> None:
    """Each format that is read gives mode RGB and about the pixels that were saved."""
    image = decode(encode(picture(3), kind), limits=LIMITS)
    assert image.mode == "RGB"
    difference = np.asarray(image, np.int16) - np.asarray(picture(3), np.int16)
    assert np.abs(difference).mean() < 8


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", PictureUndecodableError, "empty"),
        (
            b"hello, this is a letter",
            PictureFormatError,
            "send a JPEG, PNG, WebP, GIF, AVIF or HEIC",
        ),
        (picture_bytes(1)[:500], PictureUndecodableError, "damaged or truncated"),
        (picture_bytes(1)[:15], PictureUndecodableError, "damaged"),
        (b"\0\0\0\x18ftypheic" + bytes(64), PictureUndecodableError, "damaged"),
        (b"II*\0" + bytes(64), PictureFormatError, "TIFF"),
        (huge_png_header(), PictureTooLargeError, "pixels"),
    ],
)
def test_what_is_no_usable_picture_is_refused_in_words(
    data: bytes, error: type[PictureError], words: str
) -> None:
    """Each kind of bad input has its own error, which says what is wrong."""
    with pytest.raises(error, match=words):
        decode(data, limits=LIMITS)


def test_more_bytes_than_allowed_are_refused() -> None:
    """The size of the file is limited, and the limit is told."""
    with pytest.raises(PictureTooLargeError, match="at most 10 are accepted"):
        decode(picture_bytes(1), limits=PictureLimits(max_bytes=10))


def test_more_pixels_than_allowed_are_refused() -> None:
    """The header's pixels are limited, and the limit is told."""
    with pytest.raises(PictureTooLargeError, match="64x64 pixels; at most 4095"):
        decode(picture_bytes(1), limits=PictureLimits(max_pixels=4095))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(orientation: int) -> None:
    """Whatever the EXIF orientation, red is at the top left and blue at the bottom left."""
    upright = Image.new("RGB", (32, 48), "white")
    upright.paste("red", (0, 0, 16, 24))
    upright.paste("blue", (0, 24, 16, 48))
    stored_from_upright: dict[int, Callable[[Image.Image], Image.Image]] = {
        1: lambda i: i,
        2: lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda i: i.rotate(180),
        4: lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda i: i.transpose(Image.Transpose.TRANSPOSE),
        6: lambda i: i.rotate(90, expand=True),
        7: lambda i: i.transpose(Image.Transpose.TRANSVERSE),
        8: lambda i: i.rotate(-90, expand=True),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored_from_upright[orientation](upright), "PNG", exif=exif)
    image = decode(data, limits=LIMITS)
    assert image.size == (32, 48)
    assert image.getpixel((4, 4)) == (255, 0, 0)
    assert image.getpixel((4, 44)) == (0, 0, 255)


def test_transparency_becomes_white() -> None:
    """A clear pixel is white; a palette with a clear color too."""
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert decode(encode(image, "PNG"), limits=LIMITS).getpixel((3, 3)) == (255, 255, 255)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 0, 0] * 256)
    data = encode(palette, "PNG", transparency=0)
    assert decode(data, limits=LIMITS).getpixel((3, 3)) == (255, 255, 255)


def test_a_palette_gives_its_colors() -> None:
    """An opaque palette picture keeps its colors."""
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30] + [0] * 762)
    assert decode(encode(palette, "PNG"), limits=LIMITS).getpixel((3, 3)) == (10, 200, 30)


def test_sixteen_bits_keep_their_brightness() -> None:
    """Half of 65,535 is half of 255, not white."""
    gray = Image.fromarray(np.full((8, 8), 32_768, np.uint16))
    assert decode(encode(gray, "PNG"), limits=LIMITS).getpixel((3, 3)) == (128, 128, 128)


def test_cmyk_gives_its_colors() -> None:
    """A CMYK JPEG of pure red ink comes out red."""
    image = Image.new("RGB", (32, 32), (230, 20, 20)).convert("CMYK")
    red, green, blue = decode(encode(image, "JPEG"), limits=LIMITS).getpixel((9, 9))
    assert red > 200
    assert max(green, blue) < 60


def test_an_animation_gives_its_first_frame() -> None:
    """The first frame of an animated GIF is the picture."""
    frames = [Image.new("RGB", (16, 16), color) for color in ("lime", "red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, limits=LIMITS).getpixel((5, 5)) == (0, 255, 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_matter() -> None:
    """A picture whose EXIF block is garbage is taken as upright."""
    data = picture_bytes(1)
    garbage = b"Exif\0\0" + b"II*\0\xff\xff\xff\xff" + bytes(20)
    marked = data[:2] + b"\xff\xe1" + struct.pack(">H", len(garbage) + 2) + garbage + data[2:]
    assert decode(marked, limits=LIMITS).size == (64, 64)


def test_a_single_pixel_is_a_picture() -> None:
    """A 1 x 1 picture is enlarged like any other."""
    data = encode(Image.new("RGB", (1, 1), (255, 0, 0)), "PNG")
    array = to_array(decode(data, limits=LIMITS), Preprocess(side=8, mean=(0, 0, 0), std=(1, 1, 1)))
    assert array[:, 4, 4].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("fit", list(Fit))
def test_reduced_decoding_is_never_smaller_than_the_target(fit: Fit) -> None:
    """A large JPEG is decoded reduced, but every side covers what it will be resized to."""
    target = Preprocess(side=100, fit=fit, crop=0.9)
    image = decode(picture_bytes(1, side=900), limits=LIMITS, targets=[target])
    needed = resized_size(900, 900, target)
    assert image.size[0] < 900
    assert image.size[0] >= needed[0]
    assert image.size[1] >= needed[1]


def test_reduced_decoding_changes_little() -> None:
    """Reduced and full decoding give nearly the same input."""
    target = Preprocess(side=64)
    data = picture_bytes(5, side=800)
    full = to_array(decode(data, limits=LIMITS), target)
    reduced = to_array(decode(data, limits=LIMITS, targets=[target]), target)
    assert np.abs(full - reduced).mean() < 0.03


def test_normalization_is_the_formula() -> None:
    """Each channel is (value / 255 - mean) / std."""
    preprocess = Preprocess(side=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    array = to_array(Image.new("RGB", (4, 4), (255, 51, 102)), preprocess)
    assert array.dtype == np.float32
    assert array.shape == (3, 4, 4)
    assert array[:, 0, 0] == pytest.approx([1.8, 0.0, 0.05], abs=1e-6)


def test_squash_keeps_the_whole_picture() -> None:
    """Left and right halves of a wide picture each fill half of the square."""
    wide = Image.new("RGB", (200, 50), "black")
    wide.paste("white", (100, 0, 200, 50))
    square = np.asarray(to_square(wide, Preprocess(side=40, fit="squash")))
    assert square[20, 5, 0] == 0
    assert square[20, 35, 0] == 255


def test_padding_is_centered_and_filled() -> None:
    """A wide picture gets bars above and below in the fill color."""
    wide = Image.new("RGB", (200, 100), "white")
    square = to_square(wide, Preprocess(side=40, fit="pad", fill=(1, 2, 3)))
    assert square.getpixel((20, 5)) == (1, 2, 3)
    assert square.getpixel((20, 20)) == (255, 255, 255)
    assert square.getpixel((20, 35)) == (1, 2, 3)


def test_center_crop_keeps_the_middle() -> None:
    """A crop of half leaves the border of the picture out."""
    framed = Image.new("RGB", (100, 100), "red")
    framed.paste("lime", (20, 20, 80, 80))
    square = np.asarray(to_square(framed, Preprocess(side=40, fit="center-crop", crop=0.5)))
    assert (square == (0, 255, 0)).all()


def test_antialias_averages_fine_texture() -> None:
    """Fine stripes become gray with antialias and stay stripes without."""
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32))).convert("RGB")
    smooth = np.asarray(to_square(stripes, Preprocess(side=16, interpolation="bilinear")))
    sharp = to_square(stripes, Preprocess(side=16, interpolation="nearest", antialias=False))
    assert np.ptp(smooth[4:12, 4:12]) < 20
    assert set(np.unique(np.asarray(sharp))) <= {0, 255}


def test_every_filter_without_antialias_keeps_flat_color() -> None:
    """Sampling without antialias neither shifts nor darkens."""
    flat = Image.new("RGB", (50, 30), (10, 200, 90))
    filters = [kind for kind in Interpolation if kind is not Interpolation.LANCZOS]
    assert filters
    for kind in filters:
        square = to_square(flat, Preprocess(side=16, interpolation=kind, antialias=False))
        assert (np.asarray(square) == (10, 200, 90)).all()


def test_lanczos_needs_antialias() -> None:
    """A combination that does not exist is refused, not replaced."""
    with pytest.raises(ValidationError, match="lanczos needs antialias"):
        Preprocess(side=8, interpolation="lanczos", antialias=False)
