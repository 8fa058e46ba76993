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
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp"),
    "PNG": (".png", ".apng"),
    "WebP": (".webp",),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "HEIC": (".heic", ".heif", ".hif"),
    # read nowhere
    "BMP": (".bmp", ".dib"),
    "JPEG 2000": (".jp2", ".j2k", ".jpf", ".jpx"),
    "JPEG XL": (".jxl",),
    "PSD": (".psd",),
    "TIFF": (".tif", ".tiff"),
    "raw": (
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos"),
        *(".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".srw", ".x3f"),
    ),
}

_FORMAT_OF_SUFFIX = {suffix: name for name, found in _SUFFIXES.items() for suffix in found}

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


def format_of_suffix(suffix: str) -> str:
    """Name the format of files with an extension, read here or not; empty for no picture's.

    >>> format_of_suffix(".JPG"), format_of_suffix(".tif"), format_of_suffix(".txt")
    ('JPEG', 'TIFF', '')
    """
    return _FORMAT_OF_SUFFIX.get(suffix.lower(), "")


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
