"""A picture's colors are brought to sRGB by its profile, where the embedder says so."""

from __future__ import annotations

import io
import struct
import time

import numpy as np
import pytest
from PIL import Image, ImageCms

from embedder.formats.colors import to_srgb
from embedder.manifest import Fit, Preprocess
from embedder.preprocess import PictureLimits, decode, to_square
from embedder.thumbnail import make_thumbnail
from photographs.prepare.copies import CopyRecipe, shrink
from tests.factories import picture

LIMITS = PictureLimits()
OFF = Preprocess(side=48)
ON = Preprocess(side=48, color_profiles=True)

P3 = (
    (0.515102, 0.241182, -0.001052),
    (0.291965, 0.692236, 0.041880),
    (0.157153, 0.066580, 0.784073),
)
"""X, Y and Z of red, green and blue of Display P3, adapted to D50 (as in Apple's profile)."""

SRGB = (
    (0.436066, 0.222488, 0.013916),
    (0.385147, 0.716873, 0.097076),
    (0.143066, 0.060608, 0.714096),
)
"""The same of sRGB (IEC 61966-2-1, adapted to D50)."""


def profile_of(primaries: tuple[tuple[float, ...], ...], gamma: float | None = None) -> bytes:
    """Make a profile of RGB pictures; without a gamma, with the curve of sRGB."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    curve = (1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    kind, values = (3, (2.4, *curve)) if gamma is None else (0, (gamma,))
    content = {
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249),
        b"rXYZ": b"XYZ \0\0\0\0" + fixed(*primaries[0]),
        b"gXYZ": b"XYZ \0\0\0\0" + fixed(*primaries[1]),
        b"bXYZ": b"XYZ \0\0\0\0" + fixed(*primaries[2]),
    }
    content |= dict.fromkeys(
        (b"rTRC", b"gTRC", b"bTRC"),
        b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + fixed(*values),
    )
    table, body = struct.pack(">I", len(content)), b""
    start = 128 + 4 + 12 * len(content)
    for name, data in content.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return header + bytes(128 - len(header)) + table + body


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def seen(data: bytes, preprocess: Preprocess) -> Image.Image:
    """Return what a network sees before it is normalized."""
    return to_square(decode(data, limits=LIMITS, targets=[preprocess]), preprocess)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("fit", list(Fit))
def test_a_wide_color_becomes_what_it_means(kind: str, fit: Fit) -> None:
    """(0.9, 0.5, 0.3) of Display P3, by the formulas of both spaces; off, it stays as it is."""
    values = np.array([230, 128, 77])
    linear = np.where(
        values / 255 <= 0.04045, values / 255 / 12.92, ((values / 255 + 0.055) / 1.055) ** 2.4
    )
    xyz = np.array(P3).T @ linear
    other = np.clip(np.linalg.inv(np.array(SRGB).T) @ xyz, 0, 1)
    expected = 255 * np.where(other <= 0.0031308, 12.92 * other, 1.055 * other ** (1 / 2.4) - 0.055)
    assert np.abs(expected - values).max() > 8
    image = Image.new("RGB", (64, 64), tuple(values.tolist()))
    data = encode(image, kind, icc_profile=profile_of(P3), quality=100)
    on = ON.model_copy(update={"fit": fit})
    assert np.abs(np.subtract(seen(data, on).getpixel((24, 24)), expected)).max() <= 3
    off = on.model_copy(update={"color_profiles": False})
    assert np.abs(np.subtract(seen(data, off).getpixel((24, 24)), values)).max() <= 3


def test_padding_keeps_its_fill() -> None:
    """The color around a picture is none of its own."""
    image = Image.new("RGB", (64, 32), (230, 128, 77))
    preprocess = Preprocess(side=48, fit="pad", fill=(230, 128, 77), color_profiles=True)
    square = seen(encode(image, icc_profile=profile_of(P3)), preprocess)
    assert square.getpixel((24, 2)) == (230, 128, 77)
    assert square.getpixel((24, 24)) != (230, 128, 77)


@pytest.mark.parametrize(
    "profile",
    [
        b"",
        profile_of(SRGB),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        b"nonsense",
        profile_of(P3)[:200],
        profile_of(P3)[:128] + bytes(len(profile_of(P3)) - 128),
        profile_of(P3).replace(b"RGB ", b"GRAY"),
        profile_of(P3).replace(b"RGB ", b"CMYK"),
    ],
    ids=["none", "sRGB", "Pillow's sRGB", "text", "cut", "zeros", "of grays", "of inks"],
)
def test_nothing_changes_without_a_profile_that_says_so(profile: bytes) -> None:
    """None, that of sRGB, a broken one, one of other pictures: not one bit differs."""
    data = encode(picture(4), icc_profile=profile)
    assert seen(data, ON).tobytes() == seen(data, OFF).tobytes()


def test_an_embedder_without_the_key_takes_colors_as_they_are() -> None:
    """Its manifest is written as it was, so that its identity stays the same."""
    assert "color_profiles" not in OFF.model_dump()
    assert ON.model_dump()["color_profiles"] is True
    assert Preprocess(**OFF.model_dump()) == OFF
    data = encode(picture(4), icc_profile=profile_of(P3))
    assert seen(data, OFF).tobytes() == seen(encode(picture(4)), OFF).tobytes()


def test_grays_have_profiles_of_their_own() -> None:
    """A gray picture of gamma 1 is brighter than its numbers."""
    gray = profile_of(P3, gamma=1.0).replace(b"RGB ", b"GRAY").replace(b"rTRC", b"kTRC")
    data = encode(Image.new("L", (64, 64), 60), icc_profile=gray)
    expected = round(255 * (1.055 * (60 / 255) ** (1 / 2.4) - 0.055))
    assert np.abs(np.subtract(seen(data, ON).getpixel((9, 9)), expected)).max() <= 2
    assert seen(data, OFF).getpixel((9, 9)) == (60, 60, 60)


def ink_profile() -> bytes:
    """Make a profile of CMYK: white paper, cyan of Lab (55, -37, -50), all else nearly black."""
    colors = [(255, 128, 128) if n == 0 else (51, 128, 128) for n in range(16)]
    colors[8] = (140, 91, 78)
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    lut = b"mft1\0\0\0\0\4\3\2\0" + matrix + 4 * ramp + b"".join(map(bytes, colors)) + 3 * ramp
    table = struct.pack(">I4sII", 1, b"A2B0", 144, len(lut))
    size = 144 + len(lut)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    white = struct.pack(">iii", 63190, 65536, 54061)
    header += bytes(12) + b"acsp" + bytes(28) + white
    return header + bytes(128 - len(header)) + table + lut


def test_inks_are_converted_by_their_profile() -> None:
    """Cyan ink is no pure cyan light."""
    image = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    data = encode(image, "JPEG", icc_profile=ink_profile(), quality=95)
    assert seen(data, OFF).getpixel((9, 9))[1] > 250
    assert 100 < seen(data, ON).getpixel((9, 9))[1] < 220
    paper = encode(Image.new("CMYK", (64, 64), 0), "JPEG", icc_profile=ink_profile())
    assert min(seen(paper, ON).getpixel((9, 9))) > 250


@pytest.mark.parametrize("profile", [b"", b"nonsense", profile_of(P3)])
def test_inks_without_a_profile_of_inks_are_converted_as_ever(profile: bytes) -> None:
    """By the plain formula."""
    data = encode(picture(4).convert("CMYK"), "JPEG", icc_profile=profile)
    assert seen(data, ON).tobytes() == seen(data, OFF).tobytes()


def test_thumbnails_and_copies_keep_the_colors() -> None:
    """A thumbnail is sRGB; a smaller copy for training has the profile still."""
    data = encode(Image.new("RGB", (64, 64), (230, 128, 77)), icc_profile=profile_of(P3))
    shown = Image.open(io.BytesIO(make_thumbnail(data, 32) or b""))
    assert "icc_profile" not in shown.info
    wanted = seen(data, ON).getpixel((24, 24))
    assert np.abs(np.subtract(shown.getpixel((16, 16)), wanted)).max() <= 4
    copy = shrink(data, CopyRecipe(side=32))
    assert np.abs(np.subtract(seen(copy, ON).getpixel((24, 24)), wanted)).max() <= 4


def test_a_picture_without_a_profile_costs_nothing_more() -> None:
    """At most 0.3 ms, and that of an sRGB profile, which most pictures have, too."""

    def seconds(data: bytes, preprocess: Preprocess) -> float:
        best = 1.0
        for _ in range(20):
            started = time.process_time()
            seen(data, preprocess)
            best = min(best, time.process_time() - started)
        return best

    plain = encode(picture(1, side=400), "JPEG")
    common = encode(picture(1, side=400), "JPEG", icc_profile=profile_of(SRGB))
    for data in (plain, common):
        assert seconds(data, ON) - seconds(data, OFF) < 0.0003


def test_a_broken_profile_is_no_reason_to_refuse() -> None:
    """Random damage of a profile changes colors at most."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(profile_of(P3))
        for place in rng.integers(0, len(broken), 8):
            broken[place] ^= 1 << int(rng.integers(8))
        assert to_srgb(picture(1), bytes(broken)).mode == "RGB"
