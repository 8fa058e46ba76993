"""Every error that Cairn raises on purpose, in one tree.

::

    CairnError                        exit code 1
    ├── RecipeError                   2   a recipe has faults; all of them at once
    ├── ArtifactError                 3   a file that Cairn wrote cannot be trusted
    │   ├── ArtifactMissingError          it is not there
    │   ├── ArtifactDamagedError          it is there and altered, truncated or unreadable
    │   └── ArtifactMismatchError         two artifacts do not belong together
    ├── PictureError                  4   a picture cannot be used
    │   ├── PictureUndecodableError       damaged, or empty
    │   ├── PictureFormatError            not one of the formats that are read
    │   └── PictureTooLargeError          too many bytes or pixels
    ├── CatalogError                  5   a list or folder of photographs is faulty
    ├── GalleryError                  6   a gallery cannot be made or opened
    │   ├── NoGalleryError                nothing is published in the store
    │   ├── StoreBusyError                another writer is at work
    │   ├── TooManyUnreadableError        more unreadable pictures than allowed
    │   └── PublishRefusedError      14   a build is worse than it has to be
    ├── TrainingError                 7   a run cannot start, go on or be resumed
    │   └── RunInterruptedError      75   a run was told to end, and can be resumed
    ├── DeviceError                   8   the device asked for cannot be used
    └── DownloadError                 9   files cannot be downloaded

An error's text is a sentence for the person at the command line; its facts are attributes.
``ValueError`` stays for a programmer's mistake. Errors of other libraries are translated at
that library's one door, with ``raise … from``. Errors that know HTTP stand in the service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType


class CairnError(Exception):
    """Any failure that Cairn foresees; ``exit_code`` is the exit code of a command."""

    exit_code = 1

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the text and the facts, whatever arguments made them."""
        return _restore, (type(self), self.args, self.__dict__)


def _restore(
    kind: type[CairnError], args: tuple[object, ...], facts: Mapping[str, object]
) -> CairnError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a recipe: where (``optimizer.lr``) and what, in words."""

    path: str
    message: str


class RecipeError(CairnError):
    """A recipe has faults; ``faults`` holds every one of them."""

    exit_code = 2

    def __init__(self, source: str, faults: tuple[Fault, ...]) -> None:
        self.source = source
        self.faults = faults
        lines = "".join(f"\n  {fault.path}: {fault.message}" for fault in faults)
        super().__init__(f"{source} has {len(faults)} fault{'s'[: len(faults) != 1]}:{lines}")


class ArtifactError(CairnError):
    """A file that Cairn wrote cannot be trusted."""

    exit_code = 3


class ArtifactMissingError(ArtifactError):
    """A file that an artifact needs is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is missing")


class ArtifactDamagedError(ArtifactError):
    """A file of an artifact was altered, truncated or cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path} is damaged: {reason}")


class ArtifactMismatchError(ArtifactError):
    """Two artifacts do not belong together."""

    def __init__(self, what: str, *, expected: str, found: str) -> None:
        self.what = what
        self.expected = expected
        self.found = found
        super().__init__(f"{what}: expected {expected}, found {found}")


class PictureError(CairnError):
    """A picture cannot be used. ``reason`` is our own sentence and may be sent to clients."""

    exit_code = 4

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class PictureUndecodableError(PictureError):
    """The bytes are empty, truncated or damaged."""


class PictureFormatError(PictureError):
    """The bytes are not a picture of a format that is read."""


class PictureTooLargeError(PictureError):
    """The picture has more bytes or pixels than the limit."""


class CatalogError(CairnError):
    """A list or a folder of photographs is faulty."""

    exit_code = 5

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class GalleryError(CairnError):
    """A gallery cannot be made or opened."""

    exit_code = 6


class NoGalleryError(GalleryError):
    """Nothing is published in the store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} holds no published gallery; make one with `cairn-index build`")


class StoreBusyError(GalleryError):
    """Another writer holds the store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is being written by another process; wait until it is done")


class TooManyUnreadableError(GalleryError):
    """More pictures could not be read than the limit allows; ``report`` names each."""

    def __init__(self, unreadable: int, total: int, limit: float, report: Path) -> None:
        self.unreadable = unreadable
        self.total = total
        self.limit = limit
        self.report = report
        super().__init__(
            f"{unreadable} of {total} pictures cannot be read, more than the limit of "
            f"{limit:.1%}; {report} names them"
        )


class PublishRefusedError(GalleryError):
    """A build does not meet the condition that it was to be published on.

    Its exit code tells a script from every other failure that the build was measured.
    """

    exit_code = 14

    def __init__(self, build_id: str, reason: str) -> None:
        self.build_id = build_id
        self.reason = reason
        super().__init__(f"{build_id} is not published: {reason}")


class TrainingError(CairnError):
    """A training run cannot start, go on or be resumed."""

    exit_code = 7


class RunInterruptedError(TrainingError):
    """A training run was told to end by SIGTERM or SIGINT, and can be resumed.

    The exit code is ``EX_TEMPFAIL`` of sysexits.h: a failure that trying again may mend.
    """

    exit_code = 75

    def __init__(self) -> None:
        super().__init__("told to end, after writing a checkpoint; continue it with --resume")


class DeviceError(CairnError):
    """The device or precision asked for cannot be used here."""

    exit_code = 8


class DownloadError(CairnError):
    """Files cannot be downloaded; ``failures`` holds the reason of each, by its name."""

    exit_code = 9

    def __init__(self, reason: str, failures: Mapping[str, str] = MappingProxyType({})) -> None:
        self.reason = reason
        self.failures = dict(failures)
        lines = "".join(f"\n  {name}: {why}" for name, why in failures.items())
        super().__init__(f"{reason}{':' * bool(failures)}{lines}")
