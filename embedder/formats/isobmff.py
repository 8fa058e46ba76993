"""The boxes of HEIC and AVIF files (ISO/IEC 14496-12 and 23008-12), as far as safety needs them.

Decoders copy metadata and color profiles for every item, and decode every tile of a grid, so a
small file could cost gigabytes or minutes. What no pixel needs is masked before they see it, and
the pixels are counted.
"""

from collections.abc import Generator
from dataclasses import dataclass, field

from embedder.errors import PictureUndecodableError
from embedder.formats.av1 import stated_pixels
from embedder.formats.opened import MAX_PARTS, MAX_PROFILE_BYTES

_METADATA = {b"Exif", b"mime", b"uri "}
_PROFILES = {b"prof", b"rICC"}
_MAX_DEPTH = 4
"""Of a picture made of tiles, rotated or overlaid, that are made of others themselves."""

_MASK = b"skip"
_NIBBLES = (12, 8, 4, 0)
_OVERLAP = 4


@dataclass(slots=True)
class Items:
    """The pictures in a file.

    Attributes:
        primary: Number of the one that is shown.
        parts: What each one is made of, if not of pixels of its own.
        properties: Numbers of the properties of each, from 1.
        boxes: The properties: kind, start and stop of the content.
        places: Where the bytes of each lie in the file: start and stop of its parts.
        masks: Positions of the names that decoders shall not know.
    """

    primary: int = 0
    parts: dict[int, list[int]] = field(default_factory=dict)
    properties: dict[int, list[int]] = field(default_factory=dict)
    boxes: list[tuple[bytes, int, int]] = field(default_factory=list)
    places: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    masks: list[int] = field(default_factory=list)


def brands(data: bytes) -> set[bytes]:
    """Return the brands of a file that begins with its type; empty for any other."""
    if data[4:8] != b"ftyp":
        return set()
    stop = min(int.from_bytes(data[:4]), 256)
    return {data[8:12], *(data[at : at + 4] for at in range(16, stop, 4))}


def read_items(data: bytes) -> Items:
    """Read which pictures a file holds.

    Raises:
        PictureUndecodableError: There are more boxes than any picture has.
    """
    items = Items()
    for kind, start, stop in _boxes(data, 0, len(data)):
        if kind == b"meta":
            _read_meta(data, start + 4, stop, items)
            break
    return items


def masked(data: bytes, items: Items) -> bytes:
    """Return the file without metadata and color profiles, for a decoder."""
    copy = bytearray(data)
    for at in items.masks:
        copy[at : at + 4] = _MASK
    return bytes(copy)


def read_profile(data: bytes, items: Items) -> bytes:
    """Return the ICC profile of the primary picture; empty if there is none."""
    for kind, start, stop in _properties(items, items.primary):
        if kind == b"colr" and data[start : start + 4] in _PROFILES:
            profile = data[start + 4 : stop]
            return profile if len(profile) <= MAX_PROFILE_BYTES else b""
    return b""


def count_pixels(data: bytes, items: Items) -> int:
    """Count the pixels that are decoded for the picture that costs most.

    Raises:
        PictureUndecodableError: Pictures are made of one another without end.
    """

    def pixels(item: int, depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise PictureUndecodableError("the picture is made of too many others")
        if item not in counted:
            parts = items.parts.get(item)
            counted[item] = (
                sum(pixels(part, depth + 1) for part in parts)
                if parts
                else _own_pixels(data, items, item)
            )
        return counted[item]

    counted: dict[int, int] = {}
    return max((pixels(item, 0) for item in items.properties), default=0)


def _own_pixels(data: bytes, items: Items, item: int) -> int:
    for kind, start, _ in _properties(items, item):
        if kind == b"ispe":
            width, height = _number(data, start + 4, 4), _number(data, start + 8, 4)
            return max(width * height, _stated_pixels(data, items, item))
    return 0


def _stated_pixels(data: bytes, items: Items, item: int) -> int:
    """Return what an AV1 stream says itself; libheif compares that of a HEIC, libavif does not."""
    if not any(kind == b"av1C" for kind, _, _ in _properties(items, item)):
        return 0
    return stated_pixels(b"".join(data[a:b] for a, b in items.places.get(item, ())))


def _properties(items: Items, item: int) -> Generator[tuple[bytes, int, int]]:
    for number in items.properties.get(item, ()):
        if 1 <= number <= len(items.boxes):
            yield items.boxes[number - 1]


def _read_meta(data: bytes, start: int, stop: int, items: Items) -> None:
    inner = next((body for kind, body, _ in _boxes(data, start, stop) if kind == b"idat"), 0)
    for kind, body, end in _boxes(data, start, stop):
        wide = 4 if data[body] else 2
        if kind == b"pitm":
            items.primary = _number(data, body + 4, wide)
        elif kind == b"iinf":
            _mask_metadata(data, body + 4 + wide, end, items)
        elif kind == b"iloc":
            _read_places(data, body, inner, items)
        elif kind == b"iref":
            _read_parts(data, body + 4, end, wide, items)
        elif kind == b"iprp":
            _read_properties(data, body, end, items)


def _mask_metadata(data: bytes, start: int, stop: int, items: Items) -> None:
    for kind, body, _ in _boxes(data, start, stop):
        name = body + 4 + (6 if data[body] > 2 else 4)
        if kind == b"infe" and data[name : name + 4] in _METADATA:
            items.masks.append(name)


def _read_places(data: bytes, start: int, inner: int, items: Items) -> None:
    """Read where items lie (14496-12, section 8.11.3): in the file, or in the box at ``inner``.

    Raises:
        PictureUndecodableError: Together they have more bytes than the file, many times over.
    """
    version = data[start]
    sizes = _number(data, start + 4, 2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in _NIBBLES)
    wide = 4 if version > 1 else 2
    at, total = start + 6 + wide, 0
    for _ in range(min(_number(data, start + 6, wide), MAX_PARTS)):
        item = _number(data, at, wide)
        at += wide
        is_inner = version > 0 and data[at + 1] & 15 == 1
        at += 4 if version else 2
        base = _number(data, at, base_size) + (inner if is_inner else 0)
        at += base_size + 2
        for _ in range(_number(data, at - 2, 2)):
            at += index_size if version else 0
            first = base + _number(data, at, offset_size)
            length = _number(data, at + offset_size, length_size) or len(data)
            at += offset_size + length_size
            total += length + 1
            if total > _OVERLAP * len(data):
                raise PictureUndecodableError("the picture has the same bytes many times over")
            items.places.setdefault(item, []).append((first, first + length))


def _read_parts(data: bytes, start: int, stop: int, wide: int, items: Items) -> None:
    for kind, body, end in _boxes(data, start, stop):
        if kind == b"dimg":
            first = body + wide + 2
            last = min(end, first + wide * _number(data, body + wide, 2))
            parts = [_number(data, at, wide) for at in range(first, last, wide)]
            items.parts.setdefault(_number(data, body, wide), []).extend(parts)


def _read_properties(data: bytes, start: int, stop: int, items: Items) -> None:
    for kind, body, end in _boxes(data, start, stop):
        if kind == b"ipco":
            items.boxes = list(_boxes(data, body, end))
            items.masks += [
                first - 4
                for name, first, _ in items.boxes
                if name == b"colr" and data[first : first + 4] in _PROFILES
            ]
        elif kind == b"ipma":
            _read_associations(data, body, end, items)


def _read_associations(data: bytes, start: int, stop: int, items: Items) -> None:
    """Read which properties each item has (23008-12, section 9.3)."""
    wide, size = (4 if data[start] else 2), (2 if data[start + 3] & 1 else 1)
    at = start + 8
    while at + wide < stop and len(items.properties) < MAX_PARTS:
        item, count = _number(data, at, wide), data[at + wide]
        first = at + wide + 1
        at = first + size * count
        essential = 1 << (8 * size - 1)
        items.properties.setdefault(item, []).extend(
            _number(data, place, size) & ~essential for place in range(first, at, size)
        )


def _boxes(data: bytes, start: int, stop: int) -> Generator[tuple[bytes, int, int]]:
    """Walk over boxes: kind, and start and stop of the content."""
    for _ in range(MAX_PARTS):
        size, body = _number(data, start, 4), start + 8
        if size == 1:
            size, body = _number(data, body, 8), body + 8
        end = stop if size == 0 else start + size
        if body > stop or not body <= end <= stop:
            return
        yield data[start + 4 : start + 8], body, end
        start = end
    raise PictureUndecodableError("the picture has far more parts than any camera writes")


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size])
