"""Which formats are read, and the one way to open a picture's file."""

from collections.abc import Callable
from functools import cache

from embedder.errors import PictureFormatError
from embedder.formats import gif, heif, isobmff, jpeg, png, webp
from embedder.formats.opened import Opened
from embedder.formats.source import Check

_OPENERS: dict[str, Callable[[bytes, Check | None], Opened]] = {
    "JPEG": jpeg.open_picture,
    "PNG": png.open_picture,
    "WebP": webp.open_picture,
    "GIF": gif.open_picture,
    "AVIF": heif.open_avif,
    "HEIC": heif.open_heic,
}
"""In the order in which people are told of them."""

_OPTIONAL: dict[str, Callable[[], bool]] = {"AVIF": heif.is_avif_read, "HEIC": heif.is_heic_read}

_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WebP": (".webp",),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "HEIC": (".heic", ".heif", ".hif"),
}

_SIGNATURES = {
    jpeg.SIGNATURE: "JPEG",
    png.SIGNATURE[:4]: "PNG",
    gif.SIGNATURE: "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
}


@cache
def read_formats() -> tuple[str, ...]:
    """Return the names of the formats that are read here."""
    return tuple(name for name in _OPENERS if _OPTIONAL.get(name, lambda: True)())


def read_suffixes() -> frozenset[str]:
    """Return the extensions of files in these formats, in lower case, each with its dot."""
    return frozenset(suffix for name in read_formats() for suffix in _SUFFIXES[name])


def format_of(data: bytes) -> str:
    """Name the format that ``data`` begins like, read here or not; empty for none that is known.

    >>> format_of(b"%PDF-1.7"), format_of(b"Dear Sir")
    ('PDF', '')
    """
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    found = isobmff.brands(data)
    if found & heif.AVIF_BRANDS:
        return "AVIF"
    if found & heif.HEIC_BRANDS:
        return "HEIC"
    return "MP4" if found else ""


def open_picture(data: bytes, check: Check | None) -> Opened:
    """Open a picture without decoding it.

    Raises:
        PictureFormatError: Its format is not read here.
        PictureUndecodableError: It is damaged in a way that no decoder would notice in time.
        Interrupted: The check raised.
    """
    found, readable = format_of(data), read_formats()
    if found in readable:
        return _OPENERS[found](data, check)
    what = f"{found} files are not read" if found else "this is not a picture that can be read"
    raise PictureFormatError(f"{what}; send a {', '.join(readable[:-1])} or {readable[-1]}")
