"""What is asked of a recognizer: pictures, options, and what is wanted of them.

Tasks cross from process to process, so they are plain values. Ids in them are looked up by the
recognizer that performs the task, in its own gallery.
"""

from dataclasses import dataclass
from typing import Literal

Wanted = Literal["answer", "verification", "vector"]
Together = Literal["mean", "max"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a query is searched for, and what its answer has.

    Attributes:
        k: Neighbors in the answer; ``None`` leaves them out.
        landmarks: Distinct landmarks in the answer; ``None`` leaves them out.
        only: Ids of the landmarks that may answer; all if empty.
        picture: Id of a picture of the gallery, which is the query in place of a file; it does
            not find itself.
        together: How several pictures are one query. ``mean``: by the normalized mean of their
            vectors. ``max``: by the largest score that a row has for any of them.
    """

    k: int | None = None
    landmarks: int | None = None
    only: tuple[str, ...] = ()
    picture: str | None = None
    together: Together = "mean"


@dataclass(frozen=True, slots=True)
class Task:
    """One query.

    Attributes:
        pictures: Files; none where :attr:`Options.picture` is the query.
        options: How it is searched for.
        wants: ``verification`` compares with the one landmark in :attr:`Options.only`;
            ``vector`` searches for nothing.
    """

    pictures: tuple[bytes, ...] = ()
    options: Options = Options()
    wants: Wanted = "answer"

    @property
    def size(self) -> int:
        """Pictures to decode, but at least 1: the search is work, too."""
        return max(1, len(self.pictures))

    @property
    def needs_own_search(self) -> bool:
        """Whether it cannot be searched for in one batch with others, or not at all."""
        options = self.options
        return bool(
            self.wants != "answer"
            or options.landmarks
            or options.only
            or options.picture is not None
            or (options.together == "max" and len(self.pictures) > 1)
        )
