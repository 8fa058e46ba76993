"""JPEG files: their segments, read as libjpeg does (ITU-T T.81, annex B)."""

import re
from collections.abc import Generator
from dataclasses import dataclass

from embedder.errors import PictureUndecodableError

SIGNATURE = b"\xff\xd8\xff"

MAX_SCANS = 20
"""Each costs a pass over all pixels. Encoders write 10 (CMYK: 18), optimizers about as many."""

_MAX_SEGMENTS = 10_000

_END = 0xD9
_SCAN = 0xDA
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker: neither a stuffed zero nor a restart inside a scan, nor a fill byte."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A marker with what belongs to it; a scan with its compressed pixels.

    Attributes:
        marker: Second byte of the marker.
        start: Position of the marker.
        stop: Position behind the segment.
    """

    marker: int
    start: int
    stop: int


def segments(data: bytes) -> Generator[Segment]:
    """Walk over the segments up to the end marker; what lies behind it is no part of the picture.

    Only markers that libjpeg takes to have a length are skipped by it: nothing can be hidden here
    that is decoded there.

    Raises:
        PictureUndecodableError: There are more segments than any picture has.
    """
    found = _MARKER.search(data, len(SIGNATURE) - 1)
    for _ in range(_MAX_SEGMENTS):
        if found is None:
            return
        start, stop = found.span()
        marker = data[start + 1]
        if marker >= 0xC0 and marker not in (0xD8, _END):
            stop += max(2, int.from_bytes(data[stop : stop + 2]))
        found = _MARKER.search(data, stop)
        if marker == _SCAN:
            stop = found.start() if found else len(data)
        yield Segment(marker, start, min(stop, len(data)))
        if marker == _END:
            return
    raise PictureUndecodableError("the JPEG picture has far more segments than any camera writes")


def scans(data: bytes) -> list[int]:
    """Return the position of each scan.

    Raises:
        PictureUndecodableError: There are more than :data:`MAX_SCANS`.
    """
    found = [segment.start for segment in segments(data) if segment.marker == _SCAN]
    if len(found) > MAX_SCANS:
        raise PictureUndecodableError(
            f"the JPEG picture has {len(found)} scans; at most {MAX_SCANS} are decoded"
        )
    return found
