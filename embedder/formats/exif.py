"""The orientation in EXIF data; nothing else of it is read (TIFF 6.0, section 2)."""

from typing import Literal

_ORIENTATION = 274
_ENTRY_BYTES = 12
_MAX_ENTRIES = 512


def read_orientation(exif: bytes) -> int:
    """Read how the camera was held.

    Args:
        exif: EXIF data, with or without the "Exif" in front of it.

    Returns:
        1 to 8; 1, upright, where the data is damaged or does not say.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"

    def number(at: int) -> int:
        return int.from_bytes(tiff[at : at + 2], order)

    directory = int.from_bytes(tiff[4:8], order)
    first = directory + 2
    last = first + _ENTRY_BYTES * min(number(directory), _MAX_ENTRIES)
    for entry in range(first, last, _ENTRY_BYTES):
        if number(entry) == _ORIENTATION:
            value = number(entry + 8)
            return value if 1 <= value <= 8 else 1
    return 1
