"""How much memory there is, told by the files that the kernel shows, and what fits in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.resources.memory import BYTES_PER_PIXEL, REST_BYTES, available_bytes, pictures_that_fit
from tests.conftest import ROOT
from tests.unit.service.resources.test_cores import kernel

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
UNLIMITED_V1 = 9223372036854771712


@pytest.mark.parametrize(
    ("files", "size"),
    [
        ({}, MACHINE),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, MACHINE),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1048576\n"}, 1 << 20),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/memory.max": "1048576\n",
            },
            1 << 20,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/1\n3:cpu:/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1048576\n",
                "sys/fs/cgroup/cpu/memory.limit_in_bytes": "1\n",
            },
            1 << 20,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{UNLIMITED_V1}\n",
            },
            MACHINE,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "9" * 18}, MACHINE),
    ],
    ids=["nothing", "unlimited", "v2", "v2 above", "v1", "v1 unlimited", "more than there is"],
)
def test_a_limit_counts(tmp_path: Path, files: dict[str, str], size: int) -> None:
    """Of the control group of this process and of those above it, in both versions."""
    assert available_bytes(kernel(tmp_path, files)) == size


@pytest.mark.parametrize("number", [1, 2, 7])
def test_all_that_fit_are_decoded_at_once_and_not_one_more(number: int) -> None:
    """Beside the pictures that are held, and the rest of the process."""
    needed = number * BYTES_PER_PIXEL * 1000 + REST_BYTES + 5
    assert pictures_that_fit(needed, max_pixels=1000, held_bytes=5) == number
    assert pictures_that_fit(needed - 1, max_pixels=1000, held_bytes=5) == max(1, number - 1)


def test_one_is_decoded_wherever_the_service_starts() -> None:
    """However little memory there is."""
    assert pictures_that_fit(1, max_pixels=64_000_000, held_bytes=512 << 20) == 1


LARGEST = """
import io, sys
import pillow_heif
from PIL import Image
from embedder.preprocess import PictureLimits, decode

def resident(kind):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(kind))

def file(side):
    upright, buffer = Image.Exif(), io.BytesIO()
    upright[274] = 6
    image = Image.new(mode, (side, side))
    if kind == "HEIC":
        pillow_heif.from_bytes(mode, image.size, image.tobytes()).save(buffer, **options)
    else:
        image.save(buffer, kind, exif=upright, **options)
    return buffer.getvalue()

kind, mode, options = sys.argv[1], sys.argv[2], eval(sys.argv[3])
small, large = file(50), file(2500)
decode(small, limits=PictureLimits())
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before = resident("VmRSS")
decode(large, limits=PictureLimits())
print((resident("VmHWM") - before) / 2500**2)
"""


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("WEBP", "RGBA", {"lossless": True}),
        ("PNG", "LA", {}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
        ("AVIF", "RGBA", {"subsampling": "4:4:4", "speed": 10}),
        ("HEIC", "RGBA", {"chroma": 444, "enc_params": {"preset": "ultrafast"}}),
    ],
)
def test_no_picture_takes_more_than_is_reckoned_with(kind: str, mode: str, options: object) -> None:
    """The most expensive kinds of each format, measured."""
    ended = subprocess.run(
        [sys.executable, "-c", LARGEST, kind, mode, repr(options)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 5 < float(ended.stdout) <= BYTES_PER_PIXEL
