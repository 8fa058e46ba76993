"""Tells when something else is published than before."""

from pathlib import Path
from typing import NamedTuple

from embedder import manifest as embedders
from embedder.errors import CairnError
from index.gallery.store import Store
from service.settings import Settings


class Fingerprint(NamedTuple):
    """What is published: equal as long as nothing changes. What cannot be read is a value too.

    Attributes:
        build: Id of the published build; empty where there is none that can be read.
        embedders: Identity of each embedder's manifest file.
    """

    build: str
    embedders: str


def fingerprint(settings: Settings) -> Fingerprint:
    """Look at what is published."""
    try:
        build = Store(settings.store).current() or ""
    except (CairnError, OSError):
        build = ""
    path = settings.embedder
    try:
        manifests = [path / embedders.MANIFEST, *sorted(path.glob(f"*/{embedders.MANIFEST}"))]
    except OSError:
        return Fingerprint(build, "unreadable")
    return Fingerprint(build, " ".join(map(_file_identity, manifests)))


def _file_identity(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "absent"
    return f"{status.st_ino}.{status.st_mtime_ns}.{status.st_size}"
