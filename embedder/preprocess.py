"""Bytes of a picture → upright RGB → the network's input. The only resize in the program.

The trainer's validation, the index builder and the service all run these functions with the
:class:`~embedder.manifest.Preprocess` that travels in the embedder, so a picture always gives
the same input. Serving imports Pillow only here; every way in which it can fail on hostile bytes
is translated to a :class:`~embedder.errors.PictureError`.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from embedder.errors import PictureTooLargeError, PictureUndecodableError
from embedder.formats.colors import space_fits, to_srgb
from embedder.formats.opening import open_picture
from embedder.formats.source import Check, Interrupted, run
from embedder.manifest import Fit, Interpolation, Preprocess
from embedder.picture_files import open_file

_DAMAGED = "the picture is damaged or truncated"

_PROFILE = "icc_profile"
"""Where Pillow keeps it."""

_GRAY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B"})

_TILING = 2
"""Tiles at the edges reach beyond the picture, so that more pixels are decoded than it has."""

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
        data: A file in one of the formats that are read; of an animation, its first frame.
        limits: What is refused, before the pixels are decoded.
        targets: What the picture will be resized to. A JPEG may then be decoded at 1/2, 1/4 or
            1/8, never below what the largest target needs. Empty: full size.
        check: Called between reads of the file, scans of a JPEG and steps. What it raises ends
            the decoding and comes through as it is, and the pixels are freed.

    Returns:
        Mode RGB, upright by its EXIF orientation, transparency flattened onto white. An ICC
        profile goes with it, for :func:`apply_profile`.

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
        raise PictureUndecodableError(_DAMAGED) from error
    raise reason.with_traceback(None)  # the frames hold the pixels


def _decode(
    data: bytes, limits: PictureLimits, targets: Sequence[Preprocess], check: Check | None
) -> Image.Image:
    opened = open_picture(data, check)
    image = opened.image
    _check_pixels(image.width, image.height, limits)
    if opened.decoded_pixels > _TILING * limits.max_pixels:
        raise PictureTooLargeError("the picture is made of far more pixels than it has")
    _load(image, targets)
    if opened.again is not None:
        _check_whole(image, opened.again(), targets)
    run(check)
    upright = _UPRIGHT.get(opened.orientation)
    image = _flatten(_convert_inks(image, opened.profile, targets), opened.profile)
    run(check)
    return image if upright is None else image.transpose(upright)


def decodes_alike(data: bytes, one: Sequence[Preprocess], other: Sequence[Preprocess]) -> bool:
    """Tell whether a JPEG is decoded to the same pixels for two kinds of targets.

    Only its header is read. ``False`` for other formats, for inks, which a target may convert by
    their profile, and where it cannot be told.
    """
    try:
        return _drafted_size(data, one) == _drafted_size(data, other)
    except _DECODER_FAULTS:
        return False


def _drafted_size(data: bytes, targets: Sequence[Preprocess]) -> tuple[int, int]:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as header:
        if header.mode == "CMYK":
            raise ValueError("inks")
        _draft(header, targets)
        return header.size


def _load(image: Image.Image, targets: Sequence[Preprocess]) -> None:
    _draft(image, targets)
    image.load()


def _draft(image: Image.Image, targets: Sequence[Preprocess]) -> None:
    if targets:
        sizes = [resized_size(image.width, image.height, target) for target in targets]
        image.draft("RGB", (max(w for w, _ in sizes), max(h for _, h in sizes)))


def _check_whole(image: Image.Image, again: Image.Image, targets: Sequence[Preprocess]) -> None:
    """Refuse a picture whose pixels depend on what stands behind them: some are missing."""
    _load(again, targets)
    if ImageChops.difference(image, again).getbbox() is not None:
        raise PictureUndecodableError(_DAMAGED)


def _check_pixels(width: int, height: int, limits: PictureLimits) -> None:
    if width * height > limits.max_pixels:
        raise PictureTooLargeError(
            f"the picture has {width}x{height} pixels; at most {limits.max_pixels} are accepted"
        )


def _convert_inks(image: Image.Image, profile: bytes, targets: Sequence[Preprocess]) -> Image.Image:
    """Convert CMYK by its profile, if a target heeds it: once it is RGB it is too late."""
    if image.mode == "CMYK" and any(target.color_profiles for target in targets):
        return to_srgb(image, profile)
    return image


def _flatten(image: Image.Image, profile: bytes) -> Image.Image:
    """Bring any mode to RGB: 16-bit, palettes, CMYK, and transparency onto white.

    The profile goes along, where it is one of such pictures.
    """
    is_gray = image.mode in _GRAY_MODES
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    fits = image.mode != "CMYK" and space_fits(profile, "L" if is_gray else "RGB")
    if image.has_transparency_data:
        if image.mode != "RGBA":  # Pillow would copy it
            image = image.convert("RGBA")
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A"))
    else:
        flat = image.convert("RGB")
    flat.info = {_PROFILE: profile} if fits else {}
    return flat


def apply_profile(image: Image.Image) -> Image.Image:
    """Bring the colors of a picture from :func:`decode` to sRGB, as its ICC profile says."""
    profile = image.info.get(_PROFILE, b"")
    return to_srgb(image, profile) if profile else image


def read_file(path: Path, limits: PictureLimits) -> bytes:
    """Read a picture's file, or its part of a tar, but no more than one byte above the limit.

    Raises:
        PictureUndecodableError: The file cannot be read; the reason says why.
    """
    try:
        with open_file(path) as picture:
            return picture.read(limits.max_bytes + 1)
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
    scale, offset = normalization(preprocess)
    output = np.empty((3, preprocess.side, preprocess.side), np.float32)
    np.multiply(pixels.transpose(2, 0, 1), scale[:, None, None], out=output)
    output -= offset[:, None, None]
    return output


def normalization(preprocess: Preprocess) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what a pixel in [0, 255] is multiplied by, then reduced by: ``(3,)`` each, R, G, B."""
    mean, std = (np.asarray(v, np.float32) for v in (preprocess.mean, preprocess.std))
    return (1 / (255 * std)).astype(np.float32), (mean / std).astype(np.float32)


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
        small = image.resize(size, resample, box)
    else:
        left, top, right, bottom = box
        across, down = (right - left) / size[0], (bottom - top) / size[1]
        matrix = (across, 0, left, 0, down, top)
        small = image.transform(size, Image.Transform.AFFINE, matrix, resample)
    return apply_profile(small) if preprocess.color_profiles else small
