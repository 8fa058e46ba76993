"""Pictures that are odd, hostile or none: answered rightly, or refused in words."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.api.conftest import MAX_PIXELS
from tests.factories import picture, view_bytes


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode a picture as a file of the format ``kind``."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def heic(image: Image.Image) -> bytes:
    """Encode a picture as telephones do."""
    buffer = io.BytesIO()
    made = pillow_heif.from_bytes(image.mode, image.size, image.tobytes())
    made.save(buffer, quality=90, enc_params={"preset": "ultrafast"})
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Make a PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(100))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg_header(width: int, height: int) -> bytes:
    """Make a JPEG that claims another size than it holds."""
    data = bytearray(view_bytes(0, 0))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def sixteen_bit_png() -> bytes:
    """Make a 16-bit gray PNG that uses the whole range."""
    gray = np.asarray(picture(1).convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(gray), "PNG")


REFUSED = {
    "empty file": (b"", 400, "picture-undecodable"),
    "text named .jpg": (b"I am no picture.\n" * 50, 415, "not-a-picture"),
    "MP4": (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(500), 415, "not-a-picture"),
    "HEIC of nothing": (
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500),
        400,
        "picture-undecodable",
    ),
    "TIFF": (encoded(picture(0), "TIFF"), 415, "not-a-picture"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not-a-picture"),
    "truncated JPEG": (view_bytes(0, 0)[:900], 400, "picture-undecodable"),
    "JPEG that is only a header": (view_bytes(0, 0)[:20], 400, "picture-undecodable"),
    "truncated PNG": (encoded(picture(0), "PNG")[:900], 400, "picture-undecodable"),
    "60,000 x 60,000 PNG header": (png_header(60_000, 60_000), 413, "picture-too-large"),
    "60,000 x 60,000 JPEG header": (jpeg_header(60_000, 60_000), 413, "picture-too-large"),
    "a little over the limit": (png_header(1000, MAX_PIXELS // 1000 + 1), 413, "picture-too-large"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("form", [False, True], ids=["raw", "multipart"])
def test_what_cannot_be_used_is_refused_in_words(
    client: httpx.Client, name: str, *, form: bool
) -> None:
    """A 4xx problem with a stable code and a sentence, and no exception's text."""
    data, status, code = REFUSED[name]
    if form:
        answer = client.post("/predict", files={"file": ("holiday.jpg", data, "image/jpeg")})
    else:
        answer = client.post("/predict", content=data, headers={"content-type": "image/jpeg"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() == {"type", "title", "status", "code", "detail", "request_id"}
    assert problem["status"] == status
    assert problem["code"] == code
    assert "picture" in problem["detail"] or name in problem["detail"]
    assert not {"Error", "Traceback", "PIL", "<"} & set(problem["detail"].split())


ODD = {
    "1x1": encoded(picture(1).resize((1, 1)), "PNG"),
    "1x3000": encoded(picture(1).resize((1, 3000)), "PNG"),
    "animated GIF": encoded(
        picture(1), "GIF", save_all=True, append_images=[picture(2), picture(3)], duration=50
    ),
    "animated WebP": encoded(
        picture(1), "WEBP", save_all=True, append_images=[picture(2)], duration=50, lossless=True
    ),
    "16-bit PNG": sixteen_bit_png(),
    "CMYK JPEG": encoded(picture(1).convert("CMYK"), "JPEG", quality=92),
    "gray JPEG": encoded(picture(1).convert("L"), "JPEG", quality=92),
    "progressive JPEG": encoded(picture(1), "JPEG", quality=92, progressive=True),
    "palette PNG": encoded(picture(1).quantize(128), "PNG"),
    "PNG with transparency": encoded(picture(1).convert("RGBA"), "PNG"),
    "WebP": encoded(picture(1), "WEBP", quality=92),
    "1-bit PNG": encoded(picture(1).convert("1"), "PNG"),
    "AVIF": encoded(picture(1), "AVIF", quality=90),
    "HEIC": heic(picture(1)),
    "JPEG without its end": encoded(picture(1), "JPEG", quality=92)[:-2],
    "JPEG before a film": encoded(picture(1), "JPEG", quality=92) + b"\xff\xda" * 999,
}
COLORLESS = {"1x1", "1x3000", "16-bit PNG", "gray JPEG", "1-bit PNG"}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_picture_is_answered(client: httpx.Client, name: str) -> None:
    """It is decoded like any other; where its colors survive, it is still recognized."""
    answer = client.post("/predict", content=ODD[name])
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert -1 <= body["confidence"] <= 1
    if name not in COLORLESS:
        assert body["landmark_id"] == "landmark-1"
        assert body["confidence"] > 0.95


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(client: httpx.Client, orientation: int) -> None:
    """What EXIF says of how the camera was held is undone, for each of its eight values."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # shown after a quarter turn clockwise, so stored before it
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture(1)
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = client.post(
        "/predict", content=encoded(stored, "JPEG", quality=92, exif=exif.tobytes())
    ).json()
    assert body["landmark_id"] == "landmark-1"
    assert body["confidence"] > 0.98


def test_damaged_bytes_are_answered_or_refused_never_more(client: httpx.Client) -> None:
    """300 seeded mutations of every format read: each ends as 200, 400, 413 or 415."""
    rng = np.random.default_rng(0)
    kinds = [encoded(picture(1), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "AVIF")]
    kinds.append(heic(picture(1)))
    seen = set()
    for number in range(300):
        data = bytearray(kinds[number % len(kinds)])
        for place in rng.integers(0, len(data), rng.integers(1, 20)):
            data[place] ^= 1 << int(rng.integers(8))
        cut = rng.integers(1, len(data) + 1) if number // len(kinds) % 2 else len(data)
        answer = client.post("/predict", content=bytes(data[:cut]))
        assert answer.status_code in {200, 400, 413, 415}, answer.text
        seen.add(answer.status_code)
    assert {200, 400} <= seen
