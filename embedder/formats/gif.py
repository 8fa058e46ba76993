"""GIF files: the first frame, without the extensions that its pixels do not need (GIF89a)."""

import struct
from collections.abc import Iterator

from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from embedder.errors import PictureUndecodableError
from embedder.formats.opened import MAX_PARTS, Opened
from embedder.formats.source import Check, Source

SIGNATURE = b"GIF8"

_SCREEN_BYTES = 13
_EXTENSION, _FRAME, _TRAILER = b"!", b",", b";"
_CONTROL = 0xF9
_DISPOSAL = 0b0001_1100


def open_picture(data: bytes, check: Check | None) -> Opened:
    """Open a GIF.

    Raises:
        PictureUndecodableError: There is no frame, or there are blocks without end before it.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    colors = data[_SCREEN_BYTES : _SCREEN_BYTES + _palette_bytes(flags)]
    frame, control = _first_frame(data, _SCREEN_BYTES + len(colors))
    left, top, across, down = struct.unpack_from("<HHHH", data, frame + 1)
    size = struct.pack("<HH", max(width, left + across), max(height, top + down))
    parts = (data[:6], size, data[10:_SCREEN_BYTES], colors, control, data[frame:])
    image: Image.Image = GifImageFile(Source(b"".join(parts), check))
    return Opened(image)


def _first_frame(data: bytes, at: int) -> tuple[int, bytes]:
    """Find the first frame from ``at`` on; return its position and its graphic control.

    The control is made to say nothing of what becomes of the frame later: Pillow would prepare
    for it, however large the frame is.
    """
    control = b""
    steps = iter(range(MAX_PARTS))
    for _ in steps:
        kind = data[at : at + 1]
        if kind == _FRAME:
            return at, control
        if kind == _EXTENSION:
            start, at = at, _behind_blocks(data, at + 2, steps)
            if data[start + 1] == _CONTROL:
                flags = data[start + 3] & ~_DISPOSAL
                control = data[start : start + 3] + bytes([flags]) + data[start + 4 : at]
        elif kind in (_TRAILER, b""):
            break
        else:
            at += 1
    raise PictureUndecodableError("the GIF picture has no frame")


def _behind_blocks(data: bytes, at: int, steps: Iterator[int]) -> int:
    """Skip blocks of data: each begins with its size, and an empty one ends them."""
    for _ in steps:
        size = data[at]
        at += 1 + size
        if not size:
            break
    return at


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
