"""How much memory there is, told by the files that the kernel shows, and what fits in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.resources.memory import (
    BYTES_PER_PIXEL,
    available_bytes,
    memory_bytes,
    pictures_that_fit,
)
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


@pytest.mark.parametrize("worker", [0, 5_000])
@pytest.mark.parametrize("number", [1, 2, 7])
def test_all_that_fit_are_decoded_at_once_and_not_one_more(number: int, worker: int) -> None:
    """Beside the processes that decode them, of which there are twice as many for a while."""
    room = number * (BYTES_PER_PIXEL * 1000 + 2 * worker)
    assert pictures_that_fit(room, max_pixels=1000, worker_bytes=worker) == number
    fewer = pictures_that_fit(room - 1, max_pixels=1000, worker_bytes=worker)
    assert fewer == max(1, number - 1)


@pytest.mark.parametrize("room", [-5, 0, 1])
def test_one_is_decoded_wherever_the_service_starts(room: int) -> None:
    """However little memory there is."""
    assert pictures_that_fit(room, max_pixels=64_000_000) == 1


def test_what_a_process_shares_is_not_its_own() -> None:
    """A forked child has what it has written to since; both together have all of it once."""
    held = bytearray(os.urandom(1 << 20)) * 64
    own = memory_bytes(os.getpid(), "Private_Dirty")
    whole = memory_bytes(os.getpid(), "Pss")
    assert whole > own > len(held)
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        os.read(ours, 1)
        os._exit(0)
    try:
        assert memory_bytes(child, "Private_Dirty") < len(held) // 4
        together = sum(memory_bytes(one, "Pss") for one in (os.getpid(), child))
        assert own / 2 < together < whole + len(held)
    finally:
        os.write(theirs, b"x")
        os.waitpid(child, 0)
    assert memory_bytes(child, "Pss") == 0


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
