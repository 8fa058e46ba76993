"""PNG files: the chunks that pixels need, without the others (PNG, third edition)."""

import zlib
from collections.abc import Generator

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from embedder.errors import PictureUndecodableError
from embedder.formats.exif import read_orientation
from embedder.formats.opened import MAX_PARTS, MAX_PROFILE_BYTES, Opened
from embedder.formats.source import Check, Source

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}
_FRAME_BYTES = 12
"""Of a chunk beside its data: its length, name and checksum."""


def open_picture(data: bytes, check: Check | None) -> Opened:
    """Open a PNG; of an animation, the picture that is shown where animations are not.

    Raises:
        PictureUndecodableError: There are more chunks than any picture has.
    """
    parts, exif, compressed = [SIGNATURE], b"", b""
    for name, start, stop in _chunks(data):
        if name in _NEEDED and (name != b"IDAT" or stop - start > _FRAME_BYTES):
            parts.append(data[start:stop])
        elif name == b"eXIf":
            exif = exif or data[start + 8 : stop - 4]
        elif name == b"iCCP":
            compressed = compressed or data[start + 8 : stop - 4]
    image: Image.Image = PngImageFile(Source(b"".join(parts), check))
    return Opened(image, read_orientation(exif), _inflate_profile(compressed))


def _chunks(data: bytes) -> Generator[tuple[bytes, int, int]]:
    """Walk over the chunks: name, start and stop; the last may be cut short."""
    start = len(SIGNATURE)
    for _ in range(MAX_PARTS):
        name = data[start + 4 : start + 8]
        if len(name) < 4 or name == b"IEND":
            return
        stop = start + _FRAME_BYTES + int.from_bytes(data[start : start + 4])
        yield name, start, stop
        start = stop
    raise PictureUndecodableError("the PNG picture has far more chunks than any program writes")


def _inflate_profile(content: bytes) -> bytes:
    """Decompress an ICC profile; a broken or huge one is none."""
    compressed = content.partition(b"\0")[2][1:]
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(compressed, MAX_PROFILE_BYTES)
    except zlib.error:
        return b""
    return b"" if inflater.unconsumed_tail else profile
