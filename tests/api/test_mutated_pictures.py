"""Thousands of damaged and hostile pictures: each is answered or refused, and nothing is harmed."""

from __future__ import annotations

import re
import struct
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from service.resources.cores import available_cores
from tests.api.conftest import MAX_BYTES, MAX_PIXELS, Artifacts, Running, serving
from tests.api.test_bad_input import encoded, heic, jpeg_header, png_header
from tests.factories import picture, view_bytes

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*format is deprecated and will be removed in Pillow:DeprecationWarning"
)

CLIENTS = 4
BYTES_PER_PIXEL = 16
"""Of one decoding: the pixels as they are stored, with transparency, on white, and to spare."""

SPARE_BYTES = 64 << 20
"""For the bodies, and what the system's memory allocator keeps for later."""


def every_format() -> dict[str, bytes]:
    """Encode a picture in each format that Pillow writes, in the first mode it has, and as HEIC."""
    Image.init()
    files = {}
    for kind in sorted(Image.SAVE):
        for mode in ("RGB", "L", "P", "1"):
            try:
                files[kind] = encoded(picture(1).convert(mode), kind)
                break
            except (OSError, ValueError, KeyError, AttributeError):
                continue  # not this mode, or Pillow has a name but no code for this format
    return files | {"HEIC": heic(picture(1))}


def chunk(name: bytes, data: bytes) -> bytes:
    """Word a chunk of a PNG."""
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def with_chunk(name: bytes, data: bytes) -> bytes:
    """Make a PNG with another chunk after its header."""
    plain = encoded(picture(1), "PNG")
    return plain[:33] + chunk(name, data) + plain[33:]


def bombs() -> dict[str, bytes]:
    """Make small files that would fill the memory or the time of a careless reader."""
    zeros = zlib.compress(bytes(50_000_000))
    side = int(MAX_PIXELS**0.5)
    scan = view_bytes(1, 0)
    scans = encoded(picture(1), "JPEG", progressive=True)
    start = scans.rindex(b"\xff\xda")
    return {
        "PNG of claims": png_header(60_000, 60_000),
        "JPEG of claims": jpeg_header(65_500, 65_500),
        "GIF of claims": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + scan[6:],
        "PNG of zeros": encoded(Image.new("1", (9_000, 9_000)), "PNG"),
        "PNG of zeros at the limit": encoded(Image.new("RGBA", (side, side)), "PNG"),
        "WebP of one color": encoded(Image.new("RGB", (16_000, 2_000)), "WEBP", method=0),
        "GIF of many frames": encoded(
            Image.new("L", (500, 500)),
            "GIF",
            save_all=True,
            append_images=[Image.new("L", (500, 500), number) for number in range(1, 200)],
        ),
        "PNG with a text of zeros": with_chunk(b"zTXt", b"Comment\0\0" + zeros),
        "PNG with a profile of zeros": with_chunk(b"iCCP", b"profile\0\0" + zeros),
        "PNG with pixels to come": with_chunk(b"IDAT", zeros[:100_000]),
        "JPEG of 1,000 scans": scans[:-2] + 1000 * scans[start:-2] + b"\xff\xd9",
    }


def mutated(number: int, files: list[bytes]) -> bytes:
    """Damage one of ``files``, always alike: flip bits, cut, repeat a part, or empty one."""
    rng = np.random.default_rng(number)
    data = bytearray(files[number % len(files)])
    reach = min(len(data), 64) if number % 3 == 0 else len(data)  # headers decide the most
    for place in rng.integers(0, reach, rng.integers(1, 20)):
        data[place] ^= 1 << int(rng.integers(8))
    begin, end = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    ways = (
        data,
        data[: max(1, end)],
        data[:end] + data[begin:],
        data[:begin] + bytes(end - begin) + data[end:],
    )
    return bytes(ways[rng.integers(len(ways))])


def memory(service: Running, kind: str) -> int:
    """Read the bytes of memory that the service has (``VmRSS``), or had at most (``VmHWM``)."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    found = re.search(rf"{kind}:\s+(\d+) kB", status)
    assert found is not None
    return 1024 * int(found[1])


def ask(client: httpx.Client, number: int, data: bytes) -> httpx.Response:
    """Send a picture by itself or in a form, in turn."""
    if number % 2:
        return client.post("/predict", files={"file": ("picture", data, "image/jpeg")})
    return client.post("/predict", content=data)


def test_every_format_and_bomb_is_there() -> None:
    """What the next test sends is what it says."""
    files = every_format()
    assert {"JPEG", "PNG", "WEBP", "GIF", "AVIF", "HEIC", "TIFF", "BMP", "ICO"} <= files.keys()
    assert len(files) > 20
    assert all(len(data) <= MAX_BYTES for data in bombs().values())


@pytest.mark.parametrize("count", [150, pytest.param(2000, marks=pytest.mark.full)])
def test_mutated_pictures_harm_nothing(artifacts: Artifacts, tmp_path: Path, count: int) -> None:
    """Each is 200 or a 4xx that is foreseen; the process lives on, within its memory."""
    files = [*every_format().values(), *bombs().values()]
    read = [every_format()[kind] for kind in ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "HEIC")]
    pictures = files + [mutated(number, files + 3 * read) for number in range(count)]
    limits = ("--max-bytes", str(MAX_BYTES), "--max-pixels", str(MAX_PIXELS))
    patient = ("--deadline-seconds", "100")  # a bomb at the limit takes its time on a busy machine
    with (
        serving(artifacts, tmp_path / "log", *limits, *patient) as service,
        httpx.Client(base_url=service.url, timeout=120, trust_env=False) as client,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        for number in range(10):
            assert client.post("/predict", content=view_bytes(1, number)).is_success
        before = memory(service, "VmRSS")
        Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")  # the peak begins anew
        numbers = range(len(pictures))
        answers = list(pool.map(lambda n: ask(client, n, pictures[n]), numbers))
        grown = memory(service, "VmHWM") - before
        assert client.post("/predict", content=view_bytes(1, 0)).json()["landmark_id"] == (
            "landmark-1"
        )
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() == {200, 400, 413, 415}
    assert grown <= available_cores() * MAX_PIXELS * BYTES_PER_PIXEL + SPARE_BYTES
    assert "Traceback" not in (tmp_path / "log").read_text()
