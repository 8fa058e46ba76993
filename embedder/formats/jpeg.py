"""JPEG files: the segments that pixels need, read as libjpeg does (ITU-T T.81, annex B)."""

import re
from collections.abc import Generator
from dataclasses import dataclass, field

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from embedder.errors import PictureUndecodableError
from embedder.formats.exif import read_orientation
from embedder.formats.opened import MAX_PARTS, MAX_PROFILE_BYTES, Opened
from embedder.formats.source import Check, Source

SIGNATURE = b"\xff\xd8\xff"

MAX_SCANS = 20
"""Each costs a pass over all pixels. Encoders write 10 (CMYK: 18), optimizers about as many."""

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_APP1, _APP2 = 0xE1, 0xE2
_NEEDED = frozenset(range(0xC0, 0xD0)) | {_SCAN, 0xDB, 0xDC, 0xDD, 0xE0, 0xEE}
"""Frames, tables, scans, and the two that say how colors are stored: JFIF and Adobe."""

_EXIF = b"Exif\0\0"
_PROFILE = b"ICC_PROFILE\0"

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker: neither a stuffed zero nor a restart inside a scan, nor a fill byte."""

_NOISE = bytes(range(0xFE, 0, -1))
"""Compressed pixels of nothing in particular, no marker, and unlike the zeros that libjpeg adds."""


def open_picture(data: bytes, check: Check | None) -> Opened:
    """Open a JPEG; a second picture, a film or anything else behind its end is left out.

    Raises:
        PictureUndecodableError: It is damaged, or has more scans than any picture.
    """
    found = _read(data)
    end = b"\xff\xd9"

    def open_before(tail: bytes) -> Image.Image:
        return JpegImageFile(Source(b"".join([*found.parts, tail]), check, found.scans))

    return Opened(
        open_before(end),
        read_orientation(found.exif),
        found.profile(),
        again=None if found.is_ended else lambda: open_before(_NOISE + end),
    )


@dataclass(slots=True)
class _Segments:
    """What a JPEG holds.

    Attributes:
        parts: The file without what no pixel needs, up to its end marker.
        scans: Position of each scan in it.
        is_ended: The end marker is there.
        exif: EXIF data.
        profiles: Parts of the ICC profile by their number.
    """

    parts: list[bytes] = field(default_factory=lambda: [SIGNATURE[:2]])
    scans: list[int] = field(default_factory=list)
    is_ended: bool = False
    exif: bytes = b""
    profiles: dict[int, bytes] = field(default_factory=dict)

    def profile(self) -> bytes:
        """Join the ICC profile (ICC.1, annex B.4)."""
        if sum(map(len, self.profiles.values())) > MAX_PROFILE_BYTES:
            return b""
        return b"".join(part for _, part in sorted(self.profiles.items()))


def _read(data: bytes) -> _Segments:
    found, position = _Segments(), 2
    for marker, start, stop in _segments(data):
        if marker == _SCAN:
            found.scans.append(position)
        if marker in _NEEDED:
            found.parts.append(data[start:stop])
            position += stop - start
        elif marker == _APP1 and not found.exif and data.startswith(_EXIF, start + 4):
            found.exif = data[start + 4 : stop]
        elif marker == _APP2 and data.startswith(_PROFILE, start + 4):
            body = start + 4 + len(_PROFILE)
            found.profiles.setdefault(data[body], data[body + 2 : stop])
        found.is_ended = marker == _END
    if len(found.scans) > MAX_SCANS:
        raise PictureUndecodableError(
            f"the JPEG picture has {len(found.scans)} scans; at most {MAX_SCANS} are decoded"
        )
    return found


def _segments(data: bytes) -> Generator[tuple[int, int, int]]:
    """Walk over the segments up to the end marker: marker, start and stop.

    A scan reaches to the next marker. Where libjpeg could see another scan than this walk does,
    the picture is damaged.
    """
    found = _MARKER.search(data, len(SIGNATURE) - 1)
    for _ in range(MAX_PARTS):
        if found is None:
            return
        start, stop = found.span()
        marker = data[start + 1]
        if marker <= _START and marker not in _NEEDED:
            raise PictureUndecodableError("the JPEG picture is damaged")
        if marker == _END:
            yield marker, start, stop
            return
        stop += max(2, int.from_bytes(data[stop : stop + 2]))
        found = _MARKER.search(data, stop)
        if marker == _SCAN:
            stop = found.start() if found else len(data.rstrip(b"\xff"))
        yield marker, start, stop
    raise PictureUndecodableError("the JPEG picture has far more segments than any camera writes")
