"""Opens the published gallery and its embedder, and tells when something else is published.

The store's ``CURRENT`` names a build, and the build names its embedder by digest. Where the
setting ``embedder`` is a folder of embedders, the one of that digest is opened, so that a new
embedder beside the old one and the gallery made by it are published by one rename.
"""

from pathlib import Path
from typing import NamedTuple

from embedder import manifest as embedders
from embedder.artifacts.arrays import read_npz
from embedder.artifacts.files import check_files
from embedder.embedder import Embedder
from embedder.errors import ArtifactError, ArtifactMismatchError, CairnError
from embedder.preprocess import PictureLimits
from embedder.runtimes.devices import resolve_device
from index.gallery.gallery import Gallery
from index.gallery.manifest import read_manifest
from index.gallery.store import Store
from service.inference.recognizer import Recognizer
from service.resources.cores import divide_cores
from service.settings import Settings


def open_recognizer(
    settings: Settings, previous: Recognizer | None = None
) -> tuple[Recognizer, list[bytes]]:
    """Open what is published.

    Args:
        settings: Where it is, and how it is run.
        previous: What serves now. Its embedder is shared if the new gallery needs the same; and
            since there is time while it serves, every byte of the new gallery is checked.

    Returns:
        The recognizer, and pictures to warm it up with.

    Raises:
        CairnError: An artifact is missing, damaged or mismatched, or the device is not available.
    """
    cores = divide_cores(settings.threads)
    directory = Store(settings.store).directory()
    manifest = read_manifest(directory)
    place = find_embedder(settings.embedder, manifest.embedder.digest)
    digest = embedders.read_manifest(place)[1]
    device = resolve_device(settings.device)
    gallery = Gallery.open_directory(
        directory,
        embedder_digest=digest,
        threads=cores.cores_per_batch if device == "cpu" else cores.total,
        device=device,
    )
    if previous is not None:
        check_files(directory, manifest.files, deep=True)
    if previous is not None and previous.embedder.digest == digest:
        embedder = previous.embedder
    else:
        embedder = Embedder.load(
            place,
            device=settings.device,
            precision=settings.precision,
            threads=cores.cores_per_batch,
            parallel_runs=cores.parallel_batches,
            limits=PictureLimits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels),
        )
    return Recognizer(embedder, gallery), _golden_pictures(place)


def find_embedder(path: Path, digest: str) -> Path:
    """Return the directory of an embedder.

    Other embedders in a folder may be unreadable, such as one that is still being copied there.

    Args:
        path: An embedder, whichever it is; or a folder of several, of which one is wanted.
        digest: The digest of the one wanted.

    Raises:
        ArtifactMismatchError: The folder holds embedders, but not this one.
        ArtifactError: None is this one, and one of them cannot be read.
    """
    if (path / embedders.MANIFEST).exists() or not path.is_dir():
        return path
    found: dict[str, Path] = {}
    unreadable: list[ArtifactError] = []
    for manifest in sorted(path.glob(f"*/{embedders.MANIFEST}")):
        try:
            found[embedders.read_manifest(manifest.parent)[1]] = manifest.parent
        except ArtifactError as error:
            unreadable.append(error)
    if digest in found:
        return found[digest]
    if unreadable:
        raise unreadable[0]
    if not found:
        return path
    raise ArtifactMismatchError(f"embedders in {path}", expected=digest, found=", ".join(found))


def _golden_pictures(place: Path) -> list[bytes]:
    """Return the golden pictures of an embedder, as files."""
    golden = read_npz(place / embedders.GOLDEN)
    return [golden[f"picture_{number}"].tobytes() for number in range(len(golden["vectors"]))]


class Fingerprint(NamedTuple):
    """What is published: equal as long as nothing changes. What cannot be read is a value too.

    Attributes:
        build: Id of the published build.
        embedders: Identity of each embedder's manifest file.
    """

    build: str
    embedders: str


def fingerprint(settings: Settings) -> Fingerprint:
    """Look at what is published."""
    try:
        build = Store(settings.store).current() or ""
    except (CairnError, OSError):
        build = "unreadable"
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
