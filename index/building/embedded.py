"""What becomes of a picture file: what was read, its vector, its thumbnail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ReadPicture:
    """A picture file as it was read.

    Attributes:
        sha256: Digest of its content, 32 bytes; of its beginning where it exceeds the limit of
            bytes; zeros where it could not be opened.
        bytes: Its size; -1 where it is missing.
        mtime_ns: Modification time in nanoseconds since 1970; -1 where it is missing.
        fault: Why it cannot be used, in words; empty where it can.
    """

    sha256: bytes
    bytes: int
    mtime_ns: int
    fault: str = ""

    @property
    def usable(self) -> bool:
        """Whether the picture was decoded and has a vector."""
        return not self.fault


@dataclass(frozen=True, slots=True)
class EmbeddedBatch:
    """One batch of embeddings.

    Attributes:
        pictures: ``b`` pictures, in the order of the files.
        vectors: ``(b, d)`` unit rows; zeros for an unusable picture.
        thumbnails: A small JPEG of each; ``None`` where none was asked for or can be made.
        embedded: How many of the vectors the network has just computed; the others were known.
    """

    pictures: Sequence[ReadPicture]
    vectors: NDArray[np.float32]
    thumbnails: Sequence[bytes | None]
    embedded: int = 0

    @classmethod
    def join(cls, batches: Iterable[EmbeddedBatch]) -> EmbeddedBatch:
        """Concatenate batches, at least one."""
        batches = list(batches)
        return cls(
            [picture for batch in batches for picture in batch.pictures],
            np.concatenate([batch.vectors for batch in batches]),
            [thumbnail for batch in batches for thumbnail in batch.thumbnails],
            sum(batch.embedded for batch in batches),
        )

    def take(self, places: Sequence[int]) -> EmbeddedBatch:
        """Return some of the pictures, as known ones."""
        pictures = [self.pictures[place] for place in places]
        thumbnails = [self.thumbnails[place] for place in places]
        return EmbeddedBatch(pictures, self.vectors[list(places)], thumbnails)

    def usable(self) -> list[int]:
        """Return the places of the usable pictures, ascending."""
        return [place for place, picture in enumerate(self.pictures) if picture.usable]


@dataclass(slots=True)
class Tally:
    """What a command did.

    Attributes:
        embedded: Pictures that the network has embedded.
        known: Pictures whose vector came from a gallery or a cache.
        passed_over: What was passed over in data folders, counted by kind.
        missing_landmarks: Landmarks of data folders of which no picture is read.
    """

    embedded: int = 0
    known: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    missing_landmarks: int = 0
