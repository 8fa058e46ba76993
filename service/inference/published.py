"""Opens the published gallery and its embedder.

The store's ``CURRENT`` names a build, and the build names its embedder by digest. Where the
setting ``embedder`` is a folder of embedders, the one of that digest is opened, so that a new
embedder beside the old one and the gallery made by it are published by one rename.
"""

from pathlib import Path

from embedder import manifest as embedders
from embedder.artifacts.arrays import read_npz
from embedder.embedder import Embedder
from embedder.errors import ArtifactError, ArtifactMismatchError
from embedder.preprocess import PictureLimits
from embedder.runtimes.names import UsableDevice
from index.gallery.gallery import Gallery
from index.gallery.manifest import read_manifest
from index.gallery.store import Store
from index.search.kinds import EXACT
from service.inference.processes import Opening


def open_gallery(opening: Opening, device: UsableDevice) -> Gallery:
    """Open the gallery that ``opening`` names, for queries of its embedder.

    One whose every query passes all vectors is read into memory first.

    Raises:
        CairnError: An artifact is missing, damaged or mismatched.
    """
    directory = Store(opening.store).directory(opening.build)
    manifest = read_manifest(directory)
    place = find_embedder(opening.embedder, manifest.embedder.digest)
    gallery = Gallery.open_directory(
        directory,
        embedder_digest=embedders.read_manifest(place)[1],
        threads=opening.cores.total,  # of a CPU's, each worker sets its own
        device=device,
    )
    if device == "cpu" and manifest.kind == EXACT.name:
        for _ in gallery.read_ahead():
            pass
    return gallery


def open_embedder(
    opening: Opening, digest: str, device: UsableDevice, threads: int
) -> tuple[Embedder, list[bytes]]:
    """Load the embedder of a digest, to run with so many threads on a CPU.

    Returns:
        The embedder, and its golden pictures, as files: something to warm it up with.

    Raises:
        CairnError: It is missing, damaged or another one, or the device is not available.
    """
    place = find_embedder(opening.embedder, digest)
    embedder = Embedder.load(
        place,
        device=device,
        precision=opening.precision,
        threads=threads,
        limits=PictureLimits(max_bytes=opening.max_bytes, max_pixels=opening.max_pixels),
    )
    golden = read_npz(place / embedders.GOLDEN)
    return embedder, [
        golden[f"picture_{number}"].tobytes() for number in range(len(golden["vectors"]))
    ]


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
