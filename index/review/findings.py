"""What a check finds in photographs or in a gallery, and the list that ``remove`` takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from photographs import write_csv

SAME_CONTENT: Final = "same content"
NEAR_IDENTICAL: Final = "near-identical"
OUTLIER: Final = "outlier"

_COLUMNS = ("id", "landmark_id", "reason", "similarity", "other", "other_landmark_id")
_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PictureOf:
    """A picture and the landmark that it is said to show.

    Attributes:
        id: Of the picture.
        landmark_id: Its landmark.
        name: The name of that.
        file: The picture's file.
    """

    id: str
    landmark_id: str
    name: str
    file: Path


@dataclass(frozen=True, slots=True)
class Suspect:
    """A picture whose landmark is probably wrong.

    Attributes:
        picture: The picture.
        reason: :data:`SAME_CONTENT` or :data:`NEAR_IDENTICAL`: a picture of another landmark is
            the same, byte for byte or by its vector, and more probably right. :data:`OUTLIER`:
            it is unlike its own landmark, and a picture of another is nearest to it.
        other: That picture.
        similarity: Cosine of the two.
    """

    picture: PictureOf
    reason: str
    other: PictureOf
    similarity: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found.

    Attributes:
        title: What was checked: a data folder, or a build.
        pictures: Number of pictures.
        landmarks: Number of landmarks.
        suspects: Pictures whose landmark is probably wrong.
        single: Landmarks with one picture: id and name.
        by_vectors: Whether vectors were compared, not only files.
        passed_over: Number of files that are not read, by kind.
        missing: Ids of landmarks that have no file that is read.
    """

    title: str
    pictures: int
    landmarks: int
    suspects: Sequence[Suspect]
    single: Sequence[tuple[str, str]]
    by_vectors: bool
    passed_over: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    missing: Sequence[str] = ()

    def summary(self) -> dict[str, object]:
        """Count what was found; ``None`` for what only vectors tell, where there were none."""
        counts = Counter(suspect.reason for suspect in self.suspects)
        return {
            "checked": self.title,
            "pictures": self.pictures,
            "landmarks": self.landmarks,
            "same_content": counts[SAME_CONTENT],
            "near_identical": counts[NEAR_IDENTICAL] if self.by_vectors else None,
            "outliers": counts[OUTLIER] if self.by_vectors else None,
            "single_picture_landmarks": len(self.single),
            "passed_over": dict(self.passed_over),
            "missing_landmarks": len(self.missing),
        }

    def write_list(self, path: Path) -> None:
        """Write the suspects as CSV, whose column ``id`` is what ``remove --list`` reads.

        A picture that is suspect for several reasons has a line for each.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = (
            (
                *(one.picture.id, one.picture.landmark_id, one.reason, f"{one.similarity:.4f}"),
                *(one.other.id, one.other.landmark_id),
            )
            for one in self.suspects
        )
        write_csv(path, _COLUMNS, rows, errors="surrogateescape")
