"""Bytes of a picture → upright RGB → the network's input. The only resize in the program.

The trainer's validation, the index builder and the service all run these functions with the
:class:`~embedder.manifest.Preprocess` that travels in the embedder, so a picture always gives
the same input. Serving imports Pillow only here; every way in which it can fail on hostile bytes
is translated to a :class:`~embedder.errors.PictureError`.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from embedder.errors import PictureFormatError, PictureTooLargeError, PictureUndecodableError
from embedder.formats import jpeg
from embedder.formats.source import Check, Interrupted, Source, run
from embedder.manifest import Fit, Interpolation, Preprocess

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")

_DECODER_FAULTS = (
    OSError,
    SyntaxError,  # Pillow's own for a broken header
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
)

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
}

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (TIFF 6.0, tag 274); 1 is upright."""


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """The largest picture that is accepted.

    Attributes:
        max_bytes: Size of the file.
        max_pixels: Width × height as the header states them, before anything is decoded.
    """

    max_bytes: int = 20 << 20
    max_pixels: int = 64_000_000


def decode(
    data: bytes,
    *,
    limits: PictureLimits,
    targets: Sequence[Preprocess] = (),
    check: Check | None = None,
) -> Image.Image:
    """Decode a picture.

    Args:
        data: A JPEG, PNG, WebP or GIF file (its first frame).
        limits: What is refused, before the pixels are decoded.
        targets: What the picture will be resized to. A JPEG may then be decoded at 1/2, 1/4 or
            1/8, never below what the largest target needs. Empty: full size.
        check: Called between reads of the file, scans of a JPEG and steps. What it raises ends
            the decoding and comes through as it is, and the pixels are freed.

    Returns:
        Mode RGB, upright by its EXIF orientation, transparency flattened onto white.

    Raises:
        PictureFormatError: Not one of the formats.
        PictureTooLargeError: More bytes or pixels than allowed.
        PictureUndecodableError: Empty, truncated or damaged.
    """
    if not data:
        raise PictureUndecodableError("the picture is empty: 0 bytes")
    if len(data) > limits.max_bytes:
        raise PictureTooLargeError(
            f"the picture has {len(data)} bytes; at most {limits.max_bytes} are accepted"
        )
    try:
        return _decode(data, limits, targets, check)
    except Interrupted as interrupted:
        reason = interrupted.reason
    except _DECODER_FAULTS as error:
        raise PictureUndecodableError("the picture is damaged or truncated") from error
    raise reason.with_traceback(None)  # the frames hold the pixels


def _decode(
    data: bytes, limits: PictureLimits, targets: Sequence[Preprocess], check: Check | None
) -> Image.Image:
    image = _open(data, check)
    _check_pixels(image.width, image.height, limits)
    if targets:
        sizes = [resized_size(image.width, image.height, target) for target in targets]
        image.draft("RGB", (max(w for w, _ in sizes), max(h for _, h in sizes)))
    image.load()
    run(check)
    upright = _UPRIGHT.get(_orientation(image))
    image = _flatten(image)
    run(check)
    return image if upright is None else image.transpose(upright)


def _open(data: bytes, check: Check | None) -> Image.Image:
    scans = jpeg.scans(data) if data.startswith(jpeg.SIGNATURE) else ()
    try:
        return Image.open(Source(data, check, scans), formats=FORMATS)
    except UnidentifiedImageError as error:
        found = _name_format(data)
        if found in FORMATS:
            raise PictureUndecodableError(f"the {found} picture is damaged") from error
        what = f"{found} files are not read" if found else "this is not a picture that can be read"
        raise PictureFormatError(f"{what}; send a JPEG, PNG, WebP or GIF") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLargeError("the picture has far more pixels than are accepted") from error


def _name_format(data: bytes) -> str:
    """Name the format that ``data`` begins like, or return an empty string."""
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return "AVIF" if data[8:11] == b"avi" else "HEIC"
    return ""


def _check_pixels(width: int, height: int, limits: PictureLimits) -> None:
    if width * height > limits.max_pixels:
        raise PictureTooLargeError(
            f"the picture has {width}x{height} pixels; at most {limits.max_pixels} are accepted"
        )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _DECODER_FAULTS:
        return 1  # damaged EXIF says nothing of how the camera was held


def _flatten(image: Image.Image) -> Image.Image:
    """Bring any mode to RGB: 16-bit, palettes, CMYK, and transparency onto white."""
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        if image.mode != "RGBA":  # Pillow would copy it
            image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def read_file(path: Path, limits: PictureLimits) -> bytes:
    """Read a picture's file, but no more than one byte above the limit.

    Raises:
        PictureUndecodableError: The file cannot be read; the reason says why.
    """
    try:
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1)
    except OSError as error:
        raise PictureUndecodableError(error.strerror or "the file cannot be read") from error


def resized_size(width: int, height: int, preprocess: Preprocess) -> tuple[int, int]:
    """Return the size to which a whole ``width`` × ``height`` picture is resized.

    >>> resized_size(1600, 1200, Preprocess(side=224, fit="pad"))
    (224, 168)
    """
    side = preprocess.side
    if preprocess.fit is Fit.SQUASH:
        return side, side
    if preprocess.fit is Fit.PAD:
        scale = side / max(width, height)
    else:
        scale = side / (preprocess.crop * min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def to_array(image: Image.Image, preprocess: Preprocess) -> NDArray[np.float32]:
    """Resize and normalize an upright RGB picture.

    Args:
        image: Mode RGB, any size.
        preprocess: What the network expects.

    Returns:
        ``(3, side, side)`` float32, channels R, G, B.
    """
    return normalize(to_square(image, preprocess), preprocess)


def normalize(square: Image.Image, preprocess: Preprocess) -> NDArray[np.float32]:
    """Normalize an RGB picture that has its final size: the second half of :func:`to_array`."""
    pixels = np.asarray(square)
    mean, std = (np.asarray(v, np.float32) for v in (preprocess.mean, preprocess.std))
    output = np.empty((3, preprocess.side, preprocess.side), np.float32)
    np.multiply(pixels.transpose(2, 0, 1), (1 / (255 * std))[:, None, None], out=output)
    output -= (mean / std)[:, None, None]
    return output


def to_square(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Resize an RGB picture to ``side`` × ``side`` as ``preprocess.fit`` says."""
    side, width, height = preprocess.side, image.width, image.height
    if preprocess.fit is Fit.PAD:
        size = resized_size(width, height, preprocess)
        canvas = Image.new("RGB", (side, side), preprocess.fill)
        inner = _resize(image, size, (0, 0, width, height), preprocess)
        canvas.paste(inner, ((side - size[0]) // 2, (side - size[1]) // 2))
        return canvas
    box = (0.0, 0.0, float(width), float(height))
    if preprocess.fit is Fit.CENTER_CROP:
        kept = preprocess.crop * min(width, height)
        left, top = (width - kept) / 2, (height - kept) / 2
        box = (left, top, left + kept, top + kept)
    return _resize(image, (side, side), box, preprocess)


def _resize(
    image: Image.Image,
    size: tuple[int, int],
    box: tuple[float, float, float, float],
    preprocess: Preprocess,
) -> Image.Image:
    resample = Image.Resampling[preprocess.interpolation.name]
    if preprocess.antialias or preprocess.interpolation is Interpolation.NEAREST:
        return image.resize(size, resample, box)
    left, top, right, bottom = box
    across, down = (right - left) / size[0], (bottom - top) / size[1]
    return image.transform(size, Image.Transform.AFFINE, (across, 0, left, 0, down, top), resample)
