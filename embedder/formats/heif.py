"""HEIC and AVIF files: pictures of a video codec in one container.

Both decoders are loaded when the first such picture comes. AVIF is Pillow's own; HEIC needs the
package pi-heif.
"""

import importlib.util

from PIL import features

from embedder.formats.exif import read_orientation
from embedder.formats.isobmff import Container
from embedder.formats.opened import Opened
from embedder.formats.source import Check, Source

AVIF_BRANDS = {b"avif", b"avis"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}


def is_heic_read() -> bool:
    """Tell whether the package for HEIC is there."""
    return importlib.util.find_spec("pi_heif") is not None


def is_avif_read() -> bool:
    """Tell whether Pillow was built with a decoder of AVIF."""
    return bool(features.check("avif"))


def open_heic(data: bytes, check: Check | None) -> Opened:
    """Open a HEIC; libheif turns it upright itself, so its EXIF orientation is not heeded."""
    import pi_heif
    from pi_heif.as_plugin import HeifImageFile

    pi_heif.options.DECODE_THREADS = 1  # pictures are decoded beside one another
    container = Container(data)
    pixels = container.count_pixels()
    image = HeifImageFile(Source(container.masked(), check))
    return Opened(image, 1, container.profile(), decoded_pixels=pixels)


def open_avif(data: bytes, check: Check | None) -> Opened:
    """Open an AVIF; Pillow words its own rotation as an EXIF orientation."""
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    container = Container(data)
    pixels = container.count_pixels()
    image = AvifImagePlugin.AvifImageFile(Source(container.masked(), check))
    orientation = read_orientation(image.info.get("exif", b""))
    return Opened(image, orientation, container.profile(), decoded_pixels=pixels)
