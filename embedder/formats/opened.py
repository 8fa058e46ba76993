"""What opening a picture's file gives, whatever its format."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

MAX_PARTS = 50_000
"""Chunks, blocks or items of a file; each costs time, and pictures have a few thousand."""

MAX_PROFILE_BYTES = 4 << 20
"""Largest ICC profile that is used; those of printers have one or two megabytes."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A picture whose size is known and whose pixels are not decoded yet.

    Attributes:
        image: Its ``load`` decodes.
        orientation: As EXIF numbers it, 1 to 8; 1 is upright.
        profile: Its ICC profile; empty if there is none.
        decoded_pixels: How many are decoded to make it, tiles and all, where that may be more than
            its size tells.
        again: Opens the same pixels with other bytes behind them, where the file does not say
            where it ends: they decode to the same image unless the file is cut short.
    """

    image: Image.Image
    orientation: int = 1
    profile: bytes = b""
    decoded_pixels: int = 0
    again: Callable[[], Image.Image] | None = None
