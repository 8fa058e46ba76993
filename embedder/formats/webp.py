"""WebP files; of an animation the first frame."""

from PIL.WebPImagePlugin import WebPImageFile

from embedder.formats.exif import read_orientation
from embedder.formats.opened import MAX_PROFILE_BYTES, Opened
from embedder.formats.source import Check, Source

_BEFORE_SIZE = 20
"""Pillow holds a size that it sees in the first read against a limit of its own, not ours."""


def open_picture(data: bytes, check: Check | None) -> Opened:
    """Open a WebP."""
    image = WebPImageFile(Source(data, check, (_BEFORE_SIZE,)))
    profile = image.info.get("icc_profile", b"")
    return Opened(
        image,
        read_orientation(image.info.get("exif", b"")),
        profile if len(profile) <= MAX_PROFILE_BYTES else b"",
    )
