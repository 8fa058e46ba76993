"""What a data folder holds beside the pictures that are read: passed over, and told by kind."""

import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from embedder.text import name_some, normal_form

HOUSEKEEPING = "housekeeping folders"
NOT_TEXT = "names not in UTF-8"
SPECIAL = "special files"
OTHER = "other files"

_REASONS = {
    HOUSEKEEPING: "a folder of a file system or a program, not a landmark",
    NOT_TEXT: "its name is not text in UTF-8",
    SPECIAL: "it is no regular file",
}

_HOUSEKEEPING = frozenset(
    {
        *("@eadir", "@tmp", "@sharebin", "@synoresource", "#recycle", "#snapshot"),  # Synology
        *("@recycle", "@recently-snapshot", "@__thumb", "@transcode"),  # QNAP
        *("$recycle.bin", "recycler", "recycled", "system volume information"),  # Windows
        *("__macosx", "network trash folder", "temporary items"),  # macOS
        *("lost+found", "~snapshot", "trashbox", "_gsdata_"),  # Linux, NetApp, Buffalo, GoodSync
    }
)
_HOUSEKEEPING_ENDS = (".lrdata", ".lrcat-data")  # Lightroom

_SURROGATE = re.compile("[\ud800-\udfff]")

_log = logging.getLogger(__name__)


def is_housekeeping(folder: str) -> bool:
    """Tell by its name whether a folder belongs to a file system or a program.

    >>> is_housekeeping("@eaDir"), is_housekeeping("Previews.lrdata"), is_housekeeping("Hawa Mahal")
    (True, True, False)
    """
    name = folder.lower()
    return name in _HOUSEKEEPING or name.endswith(_HOUSEKEEPING_ENDS)


def is_text(name: str) -> bool:
    """Tell whether a file name is text in UTF-8."""
    return name.isascii() or not _SURROGATE.search(name)


def printable(name: str) -> str:
    r"""Escape what is not text in a file name.

    >>> printable("caf\udce9.jpg")
    'caf\\udce9.jpg'
    """
    return name.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class PassedOver:
    """What is passed over in a data folder.

    Attributes:
        files: Path, relative to the data folder, and kind of each file that may be a picture, and
            of each folder that is not entered. A kind is the name of a format that is not read
            here, or one of the constants of this module.
        others: How many files are no pictures by their names; hidden ones are not counted.
        landmarks: Landmarks of the data folder that have no other files, and so are missing.
    """

    files: tuple[tuple[str, str], ...] = ()
    others: int = 0
    landmarks: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Count by kind."""
        counts = dict(sorted(Counter(kind for _, kind in self.files).items()))
        return {**counts, OTHER: self.others} if self.others else counts

    def reasons(self) -> Iterable[tuple[str, str]]:
        """Yield path and reason, in words, of each of ``files``."""
        for path, kind in self.files:
            yield path, _REASONS.get(kind, f"{kind} files are not read here")

    def beside(self, shown: Iterable[str]) -> Self:
        """Return the same with its landmarks: folders of ``files``, but not of those ``shown``."""
        tops = {
            normal_form(path.partition("/")[0])
            for path, kind in self.files
            if "/" in path and kind != HOUSEKEEPING
        }
        return replace(self, landmarks=tuple(sorted(tops.difference(shown))))

    def __str__(self) -> str:
        """Name the kinds, each with its number."""
        return ", ".join(f"{count} {kind}" for kind, count in self.counts().items())

    def log(self, where: Path) -> None:
        """Log what is passed over; as a warning where pictures may be among it."""
        if not self.counts():
            return
        harmless = all(kind == HOUSEKEEPING for _, kind in self.files)
        level = logging.INFO if harmless else logging.WARNING
        _log.log(level, "passed over in %s: %s", printable(str(where)), self)
        if lost := self.landmarks:
            words = "%d landmarks have no picture of a format that is read: %s"
            _log.warning(words, len(lost), name_some(lost))


NOTHING = PassedOver()
