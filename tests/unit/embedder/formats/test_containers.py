"""What lies in a file beside its pixels neither hinders nor costs, whatever it is."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from embedder.errors import PictureError, PictureTooLargeError, PictureUndecodableError
from embedder.manifest import Preprocess
from embedder.preprocess import PictureLimits, decode
from tests.conftest import ROOT
from tests.factories import picture

CASES = ROOT.parent / "shared" / "cases" / "pictures"
LIMITS = PictureLimits()


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def same(data: bytes, other: bytes) -> bool:
    """Tell whether two files give the same pixels."""
    pair = [np.asarray(decode(each, limits=LIMITS)) for each in (data, other)]
    return np.array_equal(*pair)


def chunk(name: bytes, content: bytes, checksum: int | None = None) -> bytes:
    """Make a chunk of a PNG."""
    found = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", found)


def segment(marker: int, content: bytes) -> bytes:
    """Make a segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def many_tags(count: int, size: int) -> bytes:
    """Make EXIF data whose tags all claim the same ``size`` bytes; the last is an orientation."""
    start = 8 + 2 + 12 * (count + 1)
    tags = [struct.pack("<HHII", 40_000 + tag, 7, size, start) for tag in range(count)]
    tags.append(struct.pack("<HHII", 274, 3, 1, 6))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count + 1) + b"".join(tags) + bytes(size)


@pytest.mark.skipif(not CASES.exists(), reason="no public cases beside this checkout")
@pytest.mark.parametrize(
    ("case", "base"),
    [
        ("motion_photo_minimal.jpg", "base.jpg"),
        ("no_eoi.jpg", "base.jpg"),
        ("png_iccp_2mb.png", "base.png"),
        ("png_badcrc_text.png", "base.png"),
    ],
)
def test_a_public_case_is_answered_as_the_plain_picture(case: str, base: str) -> None:
    """What other programs stumbled over has the pixels of the picture that it was made of."""
    assert same((CASES / case).read_bytes(), (CASES / base).read_bytes())


@pytest.mark.parametrize("tail", [b"\xff\xda" * 500, b"\0\0\0\x18ftypmp42" + b"\xff\xda" * 99])
def test_what_follows_a_jpeg_does_not_count(tail: bytes) -> None:
    """A film behind the picture has bytes that look like scans."""
    data = encode(picture(1), "JPEG")
    assert same(data + tail, data)


def test_a_thumbnail_in_a_jpeg_does_not_count() -> None:
    """Scans of pictures inside metadata are none of this picture."""
    data = encode(picture(1), "JPEG")
    inner = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"\xff\xda" * 999)
    assert same(data[:2] + 3 * inner + data[2:], data)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_a_missing_end_marker_does_not_matter(options: dict[str, object]) -> None:
    """Some phones leave it out of panoramas."""
    data = encode(picture(1), "JPEG", **options)
    assert data.endswith(b"\xff\xd9")
    assert same(data[:-2], data)
    assert same(data[:-1], data)


def test_a_jpeg_cut_short_is_refused_wherever() -> None:
    """A picture without its last pixels is no picture without an end marker."""
    data = encode(picture(1), "JPEG")
    start = data.index(b"\xff\xda")
    cuts = range(3, len(data) - 4, 97)
    assert len(cuts) > 5
    for cut in [*cuts, start + 20, len(data) - 6]:
        with pytest.raises(PictureUndecodableError):
            decode(data[:cut], limits=LIMITS)


ANCILLARY: dict[str, Callable[[], bytes]] = {
    "text": lambda: chunk(b"tEXt", b"Comment\0" + bytes(5_000_000)),
    "compressed text": lambda: chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(40_000_000))),
    "international text": lambda: chunk(
        b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(40_000_000))
    ),
    "profile of zeros": lambda: chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(40_000_000))),
    "profile of no compression": lambda: chunk(b"iCCP", b"profile\0\0nothing"),
    "profile without a name": lambda: chunk(b"iCCP", b""),
    "physical size": lambda: chunk(b"pHYs", b""),
    "gamma": lambda: chunk(b"gAMA", b"1"),
    "colors": lambda: chunk(b"cHRM", b"1"),
    "standard colors": lambda: chunk(b"sRGB", b""),
    "time": lambda: chunk(b"tIME", b"x"),
    "EXIF": lambda: chunk(b"eXIf", b"garbage"),
    "EXIF of many tags": lambda: chunk(b"eXIf", many_tags(20_000, 1_000_000)[:-900_000]),
    "animation": lambda: chunk(b"acTL", b"\xff" * 8) + chunk(b"fcTL", b"\xff" * 26),
    "private": lambda: chunk(b"prVt", b"\xff\xda" * 999),
    "not four letters": lambda: chunk(b"1234", b"x"),
}


@pytest.mark.parametrize("name", ANCILLARY)
@pytest.mark.parametrize("place", [33, -12], ids=["before", "behind"])
@pytest.mark.parametrize("checksum", ["right", "wrong"])
def test_a_chunk_that_no_pixel_needs_does_not_matter(name: str, place: int, checksum: str) -> None:
    """Of any size, any damage and with any checksum: the pixels are read, and nothing else."""
    plain = encode(picture(1), "PNG")
    extra = ANCILLARY[name]()
    if checksum == "wrong":
        extra = extra[:-1] + bytes([extra[-1] ^ 1])
    tracemalloc.start()
    assert same(plain[:place] + extra + plain[place:], plain)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30_000_000


def test_only_one_profile_of_a_png_is_inflated() -> None:
    """Each could become a thousand times as long."""
    profile = chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(40_000_000)))
    data = png_of(profile * 400)
    started = time.process_time()
    assert same(data, encode(picture(1), "PNG"))
    assert time.process_time() - started < 1


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT"])
def test_a_chunk_that_pixels_need_is_checked(name: bytes) -> None:
    """A wrong checksum there is damage; so is a file without its last bytes of pixels."""
    data = bytearray(encode(picture(1), "PNG"))
    data[data.index(name) + 9] ^= 1
    with pytest.raises(PictureUndecodableError):
        decode(bytes(data), limits=LIMITS)


def test_a_png_cut_short_is_refused() -> None:
    """But one that lacks nothing except its end is read."""
    data = encode(picture(1), "PNG")
    assert same(data[:-12], data)
    with pytest.raises(PictureUndecodableError):
        decode(data[: len(data) // 2], limits=LIMITS)


def exif_bombs() -> Iterator[tuple[str, bytes, tuple[int, int]]]:
    """Make pictures whose EXIF claims gigabytes; one is turned by it, and one says too much."""
    wide = picture(1).crop((0, 0, 64, 32))
    exif = many_tags(400, 4_000_000)
    jpeg = encode(wide, "JPEG")
    parts = [exif[at : at + 60_000] for at in range(0, len(exif), 60_000)]
    segments = b"".join(segment(0xE1, b"Exif\0\0" + part) for part in parts)
    yield "JPEG", jpeg[:2] + segments + jpeg[2:], (32, 64)
    png = encode(wide, "PNG")
    yield "PNG", png[:33] + chunk(b"eXIf", exif) + png[33:], (32, 64)
    yield "WebP", encode(wide, "WEBP", exif=exif), (32, 64)


@pytest.mark.parametrize("number", range(3))
def test_exif_is_not_unpacked(number: int) -> None:
    """Its orientation is read; tags that claim the same megabytes many times cost nothing."""
    kind, data, size = list(exif_bombs())[number]
    tracemalloc.start()
    image = decode(data, limits=LIMITS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert image.size == size, kind
    assert peak < 50_000_000


@pytest.mark.parametrize(
    "extension",
    [b"!\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0", b"!\xfe\1x\0" * 10_000, b"\0" * 20_000],
    ids=["one", "many", "filling"],
)
def test_comments_in_a_gif_do_not_matter(extension: bytes) -> None:
    """However long they are, and between whatever."""
    data = encode(picture(1), "GIF")
    started = time.process_time()
    assert same(gif_of(extension), data)
    assert time.process_time() - started < 2


def test_a_gif_prepares_for_no_further_frame() -> None:
    """The first frame may be shown anyhow before the next: no canvas is made for it."""
    frame = b"!\xf9\x04\x09\0\0\0\0," + struct.pack("<HHHH", 0, 0, 60_000, 60_000) + b"\0\x02\0;"
    data = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + frame
    tracemalloc.start()
    with pytest.raises(PictureTooLargeError, match="60000x60000"):
        decode(data, limits=LIMITS)
    with pytest.raises(PictureUndecodableError):
        decode(b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b";", limits=LIMITS)
    tracemalloc.stop()


def png_of(inner: bytes) -> bytes:
    """Put chunks into a PNG, before its pixels."""
    plain = encode(picture(1), "PNG")
    return plain[:33] + inner + plain[33:]


def gif_of(inner: bytes) -> bytes:
    """Put blocks into a GIF, before its frame."""
    plain = encode(picture(1), "GIF")
    behind = 13 + (3 << (plain[10] & 7) + 1)
    return plain[:behind] + inner + plain[behind:]


WITHOUT_END: dict[str, Callable[[], bytes]] = {
    "empty chunks": lambda: png_of(chunk(b"IDAT", b"") * 1_600_000),
    "small chunks": lambda: png_of(chunk(b"tEXt", b"") * 1_600_000),
    "empty extensions": lambda: gif_of(b"!\xfe\0" * 6_000_000),
    "small blocks": lambda: gif_of(b"!\xfe" + b"\1x" * 9_000_000 + b"\0"),
    "filling": lambda: gif_of(b"x" * 19_000_000),
    "empty segments": lambda: b"\xff\xd8" + segment(0xFE, b"") * 4_900_000,
    "boxes": lambda: b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + b"\0\0\0\x08free" * 2_400_000,
}


@pytest.mark.parametrize("name", WITHOUT_END)
def test_parts_without_end_are_refused_soon(name: str) -> None:
    """Nobody walks over millions of them."""
    data = WITHOUT_END[name]()
    assert len(data) < LIMITS.max_bytes
    started = time.process_time()
    with pytest.raises(PictureError):
        decode(data, limits=LIMITS)
    assert time.process_time() - started < 1


def test_the_limit_of_pixels_is_ours_alone() -> None:
    """A JPEG beyond what Pillow warns of, and refuses, is decoded where the limit allows it."""
    data = encode(Image.new("L", (16_320, 12_240), 90), "JPEG")
    allowed = PictureLimits(max_pixels=250_000_000, max_bytes=60_000_000)
    image = decode(data, limits=allowed, targets=[Preprocess(side=64)])
    assert image.getpixel((9, 9)) == (90, 90, 90)
    with pytest.raises(PictureTooLargeError, match="at most 64000000"):
        decode(data, limits=LIMITS)


def headers() -> dict[str, bytes]:
    """Make files that claim 16,320 x 12,240 pixels and hold next to none."""
    lossless = bytearray(encode(picture(1), "WEBP", lossless=True))
    lossless[21:25] = struct.pack("<I", 16_319 | 12_239 << 14)
    frame = b"," + struct.pack("<HHHH", 0, 0, 16_320, 12_240) + b"\0\x02\0;"
    header = struct.pack(">IIBBBBB", 16_320, 12_240, 8, 2, 0, 0, 0)
    return {
        "WebP": bytes(lossless),
        "GIF": b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + frame,
        "PNG": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x"),
    }


@pytest.mark.parametrize("kind", headers())
def test_no_format_has_a_limit_of_its_own(kind: str) -> None:
    """Such a size is refused by our limit, and under a larger one only the missing pixels count."""
    with pytest.raises(PictureTooLargeError, match="16320x12240 pixels; at most 64000000"):
        decode(headers()[kind], limits=LIMITS)
    with pytest.raises(PictureUndecodableError):
        decode(headers()[kind], limits=PictureLimits(max_pixels=250_000_000))


def test_a_check_comes_often_enough() -> None:
    """The longest that a large progressive picture of many scans works without being asked."""
    data = encode(Image.new("RGB", (6_000, 6_000), "gray"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    data = data[:last] + data[last:-2] * 11 + data[-2:]
    times = [time.process_time()]
    decode(
        data,
        limits=LIMITS,
        targets=[Preprocess(side=224)],
        check=lambda: times.append(time.process_time()),
    )
    times.append(time.process_time())
    total = times[-1] - times[0]
    assert max(after - before for before, after in pairwise(times)) < total / 4
