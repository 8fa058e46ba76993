"""ICC profiles: what the numbers of a picture's pixels mean, brought to sRGB (ICC.1)."""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

_SPACE = slice(16, 20)
_SPACES = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}

_SAME = 2
"""Largest difference, of 255, of a profile that is taken for sRGB: that of its many variants."""


def space_fits(profile: bytes, mode: str) -> bool:
    """Tell whether a profile is one of pictures of a mode: RGB, L or CMYK."""
    return profile[_SPACE] == _SPACES.get(mode)


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Bring the colors of a picture to sRGB.

    Args:
        image: Mode RGB, or CMYK; for a profile of grays, RGB of equal channels.
        profile: Its ICC profile; a broken one, or one of other pictures, is ignored.

    Returns:
        Mode RGB; the picture itself where the profile is sRGB, and mode CMYK where it is ignored.
    """
    if space_fits(profile, "L") and image.mode == "RGB":
        image = image.getchannel("R")
    transform = _make_transform(profile, image.mode)
    if transform is None:
        return image if image.mode == "CMYK" else image.convert("RGB")
    converted: Image.Image = transform.apply(image)
    return converted


@lru_cache(maxsize=8)
def _make_transform(profile: bytes, mode: str) -> Any:  # noqa: ANN401 (littleCMS is loaded late)
    """Make what converts pictures of a mode; None where there is nothing to convert."""
    if not space_fits(profile, mode):
        return None
    from PIL import ImageCms

    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "CMYK":
        return transform
    colors = _sample(mode)
    change = np.asarray(transform.apply(colors), np.int16) - np.asarray(colors.convert("RGB"))
    return transform if np.abs(change).max() > _SAME else None


def _sample(mode: str) -> Image.Image:
    """Return a picture with colors from all over a space."""
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3)
    return Image.fromarray(cube).convert(mode)
