"""HEIC and AVIF are read like other pictures; none costs more than what it shows."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from embedder.errors import PictureTooLargeError, PictureUndecodableError
from embedder.formats import av1, heif
from embedder.formats.isobmff import Container
from embedder.preprocess import PictureLimits, decode
from tests.conftest import ROOT
from tests.factories import picture, picture_bytes

LIMITS = PictureLimits()
KINDS = ("HEIC", "AVIF")


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Encode an image; HEIC as the package writes it that encodes, too."""
    buffer = io.BytesIO()
    if kind == "HEIC":
        made = pillow_heif.from_bytes(image.mode, image.size, image.tobytes())
        made.save(buffer, quality=90, enc_params={"preset": "ultrafast"}, **options)
    else:
        image.save(buffer, kind, quality=90, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_the_pixels_are_those_that_were_saved(kind: str, mode: str) -> None:
    """In color, in gray, and with a transparency that nothing shows through."""
    image = decode(encode(picture(3).convert(mode), kind), limits=LIMITS)
    assert image.mode == "RGB"
    difference = np.asarray(image, np.int16) - np.asarray(picture(3).convert(mode).convert("RGB"))
    assert np.abs(difference).mean() < 8


@pytest.mark.parametrize("kind", KINDS)
def test_transparency_becomes_white(kind: str) -> None:
    """A clear pixel is white."""
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert min(decode(encode(clear, kind), limits=LIMITS).getpixel((9, 9))) > 250


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_once(kind: str, orientation: int) -> None:
    """By the transforms of the container; the EXIF orientation beside them is not heeded again."""
    upright = Image.new("RGB", (64, 96), "white")
    upright.paste("red", (0, 0, 32, 48))
    upright.paste("blue", (0, 48, 32, 96))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[274] = orientation
    data = encode(stored, kind, exif=exif.tobytes())
    image = decode(data, limits=LIMITS)
    assert image.size == (64, 96)
    for place, color in (((8, 8), (255, 0, 0)), ((8, 88), (0, 0, 255))):
        assert np.abs(np.subtract(image.getpixel(place), color)).max() < 40


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_of_pixels_comes_before_decoding(kind: str) -> None:
    """Nothing is decoded of a picture that is too large."""
    data = encode(Image.new("RGB", (640, 640), "gray"), kind)
    started = time.process_time()
    with pytest.raises(PictureTooLargeError, match="640x640 pixels; at most 4096"):
        decode(data, limits=PictureLimits(max_pixels=4096))
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_codec_of_more_pixels_than_the_container_is_refused(kind: str) -> None:
    """The container says 64 x 64, the pictures of the video have 640 x 640."""
    data = encode(Image.new("RGB", (640, 640), "gray"), kind)
    lie = data.replace(struct.pack(">II", 640, 640), struct.pack(">II", 64, 64))
    assert lie != data
    with pytest.raises((PictureUndecodableError, PictureTooLargeError)):
        decode(lie, limits=PictureLimits(max_pixels=100_000))


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("size", [(64, 64), (640, 333)])
def test_the_size_that_an_av1_stream_states_is_known(frames: int, size: tuple[int, int]) -> None:
    """Of a picture and of a film, whose headers differ."""
    image = picture(1).resize(size)
    data = encode(image, "AVIF", save_all=frames > 1, append_images=[image] * (frames - 1))
    container = Container(data)
    start, stop = container.places[container.primary][0]
    assert av1.stated_pixels(data[start:stop], lambda: None) == size[0] * size[1]


def test_no_number_of_units_hides_the_size_of_an_av1_stream() -> None:
    """Units of nothing may stand before the one that states it."""
    data = encode(picture(1), "AVIF")
    container = Container(data)
    start, stop = container.places[container.primary][0]
    stream = b"\x12\0" * 5_000 + data[start:stop]
    assert av1.stated_pixels(stream, lambda: None) == 64 * 64


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_or_damaged_file_is_refused(kind: str) -> None:
    """Wherever it is cut."""
    data = encode(picture(1), kind)
    cuts = range(40, len(data) - 20, 101)
    assert len(cuts) > 5
    for cut in cuts:
        with pytest.raises(PictureUndecodableError):
            decode(data[:cut], limits=LIMITS)


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_is_hidden_from_the_decoder(kind: str) -> None:
    """It is copied for every item, so neither EXIF nor a profile reaches it."""
    exif = Image.Exif()
    exif[0x010E] = "x" * 1000
    data = encode(picture(1), kind, exif=exif.tobytes(), icc_profile=b"p" * 2000)
    opened = (heif.open_heic if kind == "HEIC" else heif.open_avif)(data, None)
    assert not opened.image.info.get("exif")
    assert "icc_profile" not in opened.image.info
    assert opened.profile == b"p" * 2000


def box(kind: bytes, *content: bytes) -> bytes:
    """Make a box."""
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full(kind: bytes, *content: bytes, version: int = 0) -> bytes:
    """Make a box with a version."""
    return box(kind, bytes([version, 0, 0, 0]), *content)


def avif_of(*boxes: bytes) -> bytes:
    """Make an AVIF of boxes that say what is in it."""
    return box(b"ftyp", b"avif", bytes(4), b"mif1") + full(b"meta", *boxes)


def stream_of(units: int) -> bytes:
    """Make an AVIF whose one picture is a stream of units without pixels."""
    size = full(b"ispe", struct.pack(">II", 64, 64))
    properties = box(
        b"iprp",
        box(b"ipco", size, box(b"av1C", bytes(4))),
        full(b"ipma", struct.pack(">IHBBB", 1, 1, 2, 1, 2)),
    )

    def made(offset: int) -> bytes:
        place = struct.pack(">HHHII", 1, 0, 1, offset, 2 * units)
        places = full(b"iloc", b"\x44\0", struct.pack(">H", 1), place)
        return avif_of(full(b"pitm", struct.pack(">H", 1)), places, properties)

    return made(len(made(0)) + 8) + box(b"mdat", b"\x12\0" * units)


WITHOUT_END: dict[str, Callable[[], bytes]] = {
    "places": lambda: avif_of(
        full(
            b"iloc",
            b"\x01\0",
            struct.pack(">H", 280),
            (struct.pack(">HHH", 1, 0, 65_535) + b"\1" * 65_535) * 280,
        )
    ),
    "parts": lambda: avif_of(
        full(b"iref", box(b"dimg", struct.pack(">HH", 1, 65_535), bytes(131_070)) * 140)
    ),
    "properties": lambda: avif_of(
        box(b"iprp", full(b"ipma", struct.pack(">I", 6_000_000), b"\0\1\0" * 6_000_000))
    ),
    "boxes in boxes": lambda: avif_of(full(b"iinf", bytes(2), box(b"free") * 45_000) * 50),
    "units": lambda: stream_of(9_000_000),
}


@pytest.mark.parametrize("name", WITHOUT_END)
def test_parts_without_end_are_refused_soon(name: str) -> None:
    """Whatever there are so many of."""
    data = WITHOUT_END[name]()
    assert 5_000_000 < len(data) < LIMITS.max_bytes
    started = time.process_time()
    with pytest.raises(PictureUndecodableError, match="far more parts"):
        decode(data, limits=LIMITS)
    assert time.process_time() - started < 1


def made_of(tiles: Sequence[bytes], kind: bytes, across: int, refers: int) -> bytes:
    """Make a HEIC or AVIF whose primary picture is a grid of ``across`` tiles in one row.

    Args:
        tiles: Files of one picture each, of 64 x 64 pixels; the first gives the configuration.
        kind: ``hvc1`` or ``av01``.
        across: Width of the grid in tiles.
        refers: How many rows of tiles its reference lists.
    """
    first = tiles[0]
    config = b"hvcC" if kind == b"hvc1" else b"av1C"
    boxes = Container(first).boxes
    [settings] = [first[a:b] for name, a, b in boxes if name == config]
    payloads = [each[each.rindex(b"mdat") + 4 :] for each in tiles]
    grid = struct.pack(">BBBBHH", 0, 0, refers - 1, across - 1, 64 * across, 64 * refers)
    numbers = range(2, 2 + len(tiles))
    parts = [2 + place % len(tiles) for place in range(across * refers)]
    properties = box(
        b"iprp",
        box(
            b"ipco",
            box(config, settings),
            full(b"ispe", struct.pack(">II", 64, 64)),
            full(b"ispe", struct.pack(">II", 64 * across, 64 * refers)),
            full(b"pixi", b"\3\x08\x08\x08"),
        ),
        full(
            b"ipma",
            struct.pack(">I", 1 + len(tiles)),
            struct.pack(">HBBB", 1, 2, 3, 4),
            *(struct.pack(">HBBBB", number, 3, 0x81, 2, 4) for number in numbers),
        ),
    )

    def meta(offset: int) -> bytes:
        places, at = [], offset
        for number, content in enumerate([grid, *payloads], 1):
            places.append(struct.pack(">HHHII", number, 0, 1, at, len(content)))
            at += len(content)
        kinds = [(1, b"grid"), *((number, kind) for number in numbers)]
        return full(
            b"meta",
            full(b"hdlr", bytes(4), b"pict", bytes(13)),
            full(b"pitm", struct.pack(">H", 1)),
            full(b"iloc", b"\x44\0", struct.pack(">H", 1 + len(tiles)), *places),
            full(
                b"iinf",
                struct.pack(">H", 1 + len(tiles)),
                *(
                    full(b"infe", struct.pack(">HH", n, 0), name, b"\0", version=2)
                    for n, name in kinds
                ),
            ),
            properties,
            full(
                b"iref",
                box(b"dimg", struct.pack(f">HH{len(parts)}H", 1, len(parts), *parts)),
            ),
        )

    brand = b"heic" if kind == b"hvc1" else b"avif"
    start = box(b"ftyp", brand, bytes(4), b"mif1", brand, b"miaf")
    offset = len(start) + len(meta(0)) + 8
    return start + meta(offset) + box(b"mdat", grid, *payloads)


@pytest.mark.parametrize(("kind", "codec"), [("HEIC", b"hvc1"), ("AVIF", b"av01")])
def test_a_grid_is_read(kind: str, codec: bytes) -> None:
    """As telephones write it: a picture of tiles."""
    tiles = [encode(Image.new("RGB", (64, 64), color), kind) for color in ("red", "blue")]
    image = decode(made_of(tiles, codec, across=2, refers=1), limits=LIMITS)
    assert image.size == (128, 64)
    assert image.getpixel((20, 20))[0] > 200
    assert image.getpixel((100, 20))[2] > 200


@pytest.mark.parametrize(("kind", "codec"), [("HEIC", b"hvc1"), ("AVIF", b"av01")])
def test_a_grid_of_far_more_pixels_than_it_shows_is_refused(kind: str, codec: bytes) -> None:
    """Each of 900 tiles would be decoded for a picture of the size of one."""
    data = made_of(900 * [encode(Image.new("RGB", (64, 64)), kind)], codec, across=30, refers=30)
    assert decode(data, limits=LIMITS).size == (1920, 1920)
    lie = data.replace(struct.pack(">II", 64 * 30, 64 * 30), struct.pack(">II", 64, 64))
    lie = lie.replace(struct.pack(">HH", 64 * 30, 64 * 30), struct.pack(">HH", 64, 64))
    with pytest.raises((PictureTooLargeError, PictureUndecodableError)) as caught:
        decode(lie, limits=PictureLimits(max_pixels=1_000_000))
    assert kind == "AVIF" or "far more pixels" in str(caught.value)


def test_pictures_made_of_one_another_are_refused() -> None:
    """A grid of itself has no pixels."""
    data = made_of([encode(picture(1), "HEIC")], b"hvc1", across=2, refers=1)
    itself = data.replace(struct.pack(">HHHH", 1, 2, 2, 2), struct.pack(">HHHH", 1, 2, 1, 1))
    assert itself != data
    with pytest.raises(PictureUndecodableError):
        decode(itself, limits=LIMITS)


def test_a_film_is_named() -> None:
    """It has the container of a HEIC, but is none."""
    with pytest.raises(Exception, match="MP4 files are not read"):
        decode(b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(99), limits=LIMITS)


WITHOUT = """
import sys
sys.modules["pi_heif"] = None
from embedder.errors import PictureFormatError
from embedder.formats.opening import format_of_suffix, read_formats
from embedder.preprocess import PictureLimits, decode
assert format_of_suffix(".heic") not in read_formats() and "JPEG" in read_formats()
try:
    decode(sys.stdin.buffer.read(), limits=PictureLimits())
except PictureFormatError as error:
    print(error)
"""


def test_without_its_package_heic_is_refused_by_name() -> None:
    """And what can be sent instead does not list it."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        cwd=ROOT,
        input=encode(picture(1), "HEIC"),
        capture_output=True,
        check=True,
    )
    assert ended.stdout == b"HEIC files are not read; send a JPEG, PNG, WebP, GIF or AVIF\n"


def test_decoders_of_films_are_loaded_when_they_are_needed() -> None:
    """Neither of them when a JPEG is decoded."""
    script = (
        "import sys; from embedder.preprocess import PictureLimits, decode;"
        "decode(sys.stdin.buffer.read(), limits=PictureLimits());"
        "print(sorted({'pi_heif', 'PIL.AvifImagePlugin', 'PIL.ImageCms'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        input=picture_bytes(1),
        capture_output=True,
        check=True,
    )
    assert ended.stdout == b"[]\n"


def test_many_items_cost_no_copies() -> None:
    """A profile that all the pictures of a file share is not copied for each."""
    data = encode(picture(1), "HEIC", icc_profile=bytes(2_000_000))
    tracemalloc.start()
    decode(data, limits=LIMITS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 2_000_000
