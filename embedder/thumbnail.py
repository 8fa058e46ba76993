"""Small pictures for people to look at: JPEG, upright, in sRGB, and nothing but pixels."""

import io

from PIL import Image

from embedder.errors import PictureError
from embedder.manifest import Preprocess
from embedder.preprocess import PictureLimits, apply_profile, decode

_QUALITY = 80


def make_thumbnail(data: bytes, side: int, limits: PictureLimits | None = None) -> bytes | None:
    """Shrink a picture to fit into a square, never enlarging it.

    Args:
        data: The picture's file.
        side: Length of its longer side at most, in pixels.
        limits: The largest picture that is decoded.

    Returns:
        The file of the thumbnail; ``None`` where the picture cannot be decoded.
    """
    try:
        image = decode(data, limits=limits or PictureLimits(), targets=[thumbnail_target(side)])
    except PictureError:
        return None
    return shrink(image, side)


def thumbnail_target(side: int) -> Preprocess:
    """Return what a picture is decoded for, whose thumbnail has at most ``side`` pixels a side."""
    return Preprocess(side=side, color_profiles=True)


def shrink(image: Image.Image, side: int) -> bytes:
    """Turn a picture that was decoded for its thumbnail into one; its pixels are lost."""
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    apply_profile(image).save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()
