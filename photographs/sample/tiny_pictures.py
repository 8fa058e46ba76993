"""Draw tiny photographs by the million: a landmark is a few shades of a color, each at its place.

A tenth of the time of :mod:`photographs.sample.pictures`, for sets whose number of pictures matters
and whose looks do not.
"""

import io

import numpy as np
from PIL import Image

SIDE = 48
"""Pixels of both sides of a picture."""

_FIELD, _SCENE = 3, 9  # shades along a side
_NOISE = 24
_UNKNOWN = 1 << 40  # number of the first place that is no landmark


def draw_tiny(seed: int, landmark: int, picture: int, *, field: int = _FIELD) -> bytes:
    """Draw one photograph of one landmark as a JPEG; the same for the same arguments.

    Crop, light, something that stands before the landmark, and noise are the picture's own.

    Args:
        seed: Of the whole set, not negative.
        landmark: Which landmark, from 0.
        picture: Which photograph of it, from 0.
        field: Shades along a side.
    """
    rng = np.random.default_rng((seed, 5, landmark))
    colors = (rng.random(3, np.float32) + rng.random((field, field, 3), np.float32)) / 2
    rng = np.random.default_rng((seed, 6, landmark, picture))
    before = rng.random((field, field, 3), np.float32)
    numbers = rng.random(6, np.float32)
    share, gain, size, left, top = numbers[:5] * (0.4, 0.5, 0.3 * field, 1, 1)
    seen = (colors + share * (before - colors)) * (170 + 160 * gain) - 20 * numbers[5]
    size = field - float(size)
    left, top = float(left) * (field - size), float(top) * (field - size)
    small, bicubic = Image.fromarray(seen.clip(0, 255).astype(np.uint8)), Image.Resampling.BICUBIC
    image = small.resize((SIDE, SIDE), bicubic, (left, top, left + size, top + size))
    noise = rng.integers(0, _NOISE, (SIDE, SIDE, 1), np.uint8)
    pixels = np.minimum(np.asarray(image), 255 - _NOISE) + noise
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=75)
    return file.getvalue()


def draw_tiny_scene(seed: int, picture: int) -> bytes:
    """Draw one photograph of no landmark: a place that is seen only once."""
    return draw_tiny(seed, _UNKNOWN + picture, 0, field=_SCENE)
