"""The boxes of HEIC and AVIF files (ISO/IEC 14496-12 and 23008-12), as far as safety needs them.

Decoders copy metadata and color profiles for every item, and decode every tile of a grid, so a
small file could cost gigabytes or minutes. What no pixel needs is masked before they see it, and
the pixels are counted.
"""

from collections.abc import Generator
from typing import NamedTuple

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


class Box(NamedTuple):
    """A box: its kind, and start and stop of its content."""

    kind: bytes
    start: int
    stop: int


def brands(data: bytes) -> set[bytes]:
    """Return the brands of a file that begins with its type; empty for any other."""
    if data[4:8] != b"ftyp":
        return set()
    stop = min(int.from_bytes(data[:4]), 256)
    return {data[8:12], *(data[at : at + 4] for at in range(16, stop, 4))}


class Container:
    """The pictures in a file.

    Raises:
        PictureUndecodableError: There are more boxes, pictures or properties than any picture has,
            or the same bytes are many pictures.

    Attributes:
        primary: Number of the one that is shown.
        parts: What each one is made of, if not of pixels of its own.
        properties: Numbers of the properties of each, from 1.
        boxes: The properties.
        places: Where the bytes of each lie in the file: start and stop of its parts.
    """

    def __init__(self, data: bytes) -> None:
        self.primary = 0
        self.parts: dict[int, list[int]] = {}
        self.properties: dict[int, list[int]] = {}
        self.boxes: list[Box] = []
        self.places: dict[int, list[tuple[int, int]]] = {}
        self._data = data
        self._masks: list[int] = []  # positions of the names that decoders shall not know
        self._steps = iter(range(MAX_PARTS))
        for kind, start, stop in self._walk(0, len(data)):
            if kind == b"meta":
                self._read_meta(start + 4, stop)
                break

    def masked(self) -> bytes:
        """Return the file without metadata and color profiles, for a decoder."""
        copy = bytearray(self._data)
        for at in self._masks:
            copy[at : at + 4] = _MASK
        return bytes(copy)

    def profile(self) -> bytes:
        """Return the ICC profile of the primary picture; empty if there is none."""
        for kind, start, stop in self._boxes_of(self.primary):
            if kind == b"colr" and self._data[start : start + 4] in _PROFILES:
                profile = self._data[start + 4 : stop]
                return profile if len(profile) <= MAX_PROFILE_BYTES else b""
        return b""

    def count_pixels(self) -> int:
        """Count the pixels that are decoded for the picture that costs most.

        Raises:
            PictureUndecodableError: Pictures are made of one another without end.
        """

        def pixels(item: int, depth: int) -> int:
            if depth > _MAX_DEPTH:
                raise PictureUndecodableError("the picture is made of too many others")
            if item not in counted:
                parts = self.parts.get(item)
                counted[item] = (
                    sum(pixels(part, depth + 1) for part in parts)
                    if parts
                    else self._own_pixels(item)
                )
            return counted[item]

        counted: dict[int, int] = {}
        return max((pixels(item, 0) for item in self.properties), default=0)

    def _own_pixels(self, item: int) -> int:
        """Count by the container or, where that says more, by an AV1 stream itself.

        libheif compares the two for a HEIC, libavif does not.
        """
        boxes = {box.kind: box.start for box in reversed(list(self._boxes_of(item)))}
        if b"ispe" not in boxes:
            return 0
        at = boxes[b"ispe"]
        stated = self._number(at + 4, 4) * self._number(at + 8, 4)
        if b"av1C" not in boxes:
            return stated
        stream = b"".join(self._data[a:b] for a, b in self.places.get(item, ()))
        return max(stated, stated_pixels(stream, self._step))

    def _boxes_of(self, item: int) -> Generator[Box]:
        for number in self.properties.get(item, ()):
            if 1 <= number <= len(self.boxes):
                yield self.boxes[number - 1]

    # Reading.

    def _read_meta(self, start: int, stop: int) -> None:
        boxes = list(self._walk(start, stop))
        inner = next((box.start for box in boxes if box.kind == b"idat"), 0)
        for kind, body, end in boxes:
            wide = 4 if self._data[body] else 2
            if kind == b"pitm":
                self.primary = self._number(body + 4, wide)
            elif kind == b"iinf":
                self._mask_metadata(body + 4 + wide, end)
            elif kind == b"iloc":
                self._read_places(body, inner)
            elif kind == b"iref":
                self._read_parts(body + 4, end, wide)
            elif kind == b"iprp":
                self._read_properties(body, end)

    def _mask_metadata(self, start: int, stop: int) -> None:
        for kind, body, _ in self._walk(start, stop):
            name = body + 4 + (6 if self._data[body] > 2 else 4)
            if kind == b"infe" and self._data[name : name + 4] in _METADATA:
                self._masks.append(name)

    def _read_places(self, start: int, inner: int) -> None:
        """Read where items lie (14496-12, section 8.11.3): in the file, or behind ``inner``."""
        version, whole = self._data[start], len(self._data)
        sizes = self._number(start + 4, 2)
        offset_size, length_size, base_size, index_size = (sizes >> s & 15 for s in _NIBBLES)
        wide = 4 if version > 1 else 2
        at, total = start + 6 + wide, 0
        for _ in range(self._number(start + 6, wide)):
            item = self._number(at, wide)
            at += wide
            is_inner = version > 0 and self._data[at + 1] & 15 == 1
            at += 4 if version else 2
            base = self._number(at, base_size) + (inner if is_inner else 0)
            at += base_size + 2
            self._step()
            for _ in range(self._number(at - 2, 2)):
                self._step()
                at += index_size if version else 0
                first = base + self._number(at, offset_size)
                length = self._number(at + offset_size, length_size) or whole
                at += offset_size + length_size
                total += length
                if total > _OVERLAP * whole:
                    raise PictureUndecodableError("the picture has the same bytes many times over")
                self.places.setdefault(item, []).append((first, first + length))

    def _read_parts(self, start: int, stop: int, wide: int) -> None:
        for kind, body, end in self._walk(start, stop):
            if kind == b"dimg":
                first = body + wide + 2
                last = min(end, first + wide * self._number(body + wide, 2))
                parts = self.parts.setdefault(self._number(body, wide), [])
                parts += self._numbers(first, last, wide)

    def _read_properties(self, start: int, stop: int) -> None:
        for kind, body, end in self._walk(start, stop):
            if kind == b"ipco":
                self.boxes = list(self._walk(body, end))
                self._masks += [
                    first - 4
                    for name, first, _ in self.boxes
                    if name == b"colr" and self._data[first : first + 4] in _PROFILES
                ]
            elif kind == b"ipma":
                self._read_associations(body, end)

    def _read_associations(self, start: int, stop: int) -> None:
        """Read which properties each item has (23008-12, section 9.3)."""
        data = self._data
        wide, size = (4 if data[start] else 2), (2 if data[start + 3] & 1 else 1)
        essential = 1 << (8 * size - 1)
        at = start + 8
        while at + wide < stop:
            self._step()
            first = at + wide + 1
            properties = self.properties.setdefault(self._number(at, wide), [])
            at = first + size * data[at + wide]
            properties += (number & ~essential for number in self._numbers(first, at, size))

    def _walk(self, start: int, stop: int) -> Generator[Box]:
        """Walk over boxes."""
        while True:
            self._step()
            size, body = self._number(start, 4), start + 8
            if size == 1:
                size, body = self._number(body, 8), body + 8
            end = stop if size == 0 else start + size
            if body > stop or not body <= end <= stop:
                return
            yield Box(self._data[start + 4 : start + 8], body, end)
            start = end

    def _numbers(self, start: int, stop: int, size: int) -> Generator[int]:
        for at in range(start, stop, size):
            self._step()
            yield self._number(at, size)

    def _number(self, at: int, size: int) -> int:
        return int.from_bytes(self._data[at : at + size])

    def _step(self) -> None:
        if next(self._steps, None) is None:
            raise PictureUndecodableError("the picture has far more parts than any camera writes")
