"""A new embedder and gallery in, the old ones out, and nothing dropped.

What is published is opened beside what serves, proved, warmed, and only then switched to. What
cannot be served is refused, and the old pair serves on; ``/readyz`` and the metrics say so.

The store's ``CURRENT`` names a build, and the build names its embedder by digest. Where the
setting ``embedder`` is a folder of embedders, the one of that digest is taken, so that a new
embedder laid beside the old one and the gallery made by it are published by one rename.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import re
from pathlib import Path

from embedder import manifest as embedders
from embedder.artifacts.arrays import read_npz
from embedder.artifacts.files import check_files
from embedder.embedder import Embedder
from embedder.errors import ArtifactError, ArtifactMismatchError, CairnError, DeviceError
from embedder.preprocess import PictureLimits
from embedder.runtimes.devices import resolve_device
from index.gallery.gallery import Gallery
from index.gallery.manifest import read_manifest
from index.gallery.store import Store
from service.contract.schemas import Ready, Refusal
from service.http.problems import ReloadRefusedError
from service.inference.batcher import Batcher
from service.inference.recognizer import Recognizer
from service.resources.cores import divide_cores
from service.settings import Settings
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


def open_recognizer(
    settings: Settings, previous: Recognizer | None = None
) -> tuple[Recognizer, list[bytes]]:
    """Open what is published.

    Args:
        settings: Where it is, and how it is run.
        previous: What serves now. Its embedder is shared if it is the one wanted; and since
            there is time while it serves, every byte of the new gallery is checked.

    Returns:
        The recognizer, and pictures to warm it with.

    Raises:
        CairnError: An artifact is missing, damaged or foreign, or the device is not to be had.
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
        threads=cores.each if device == "cpu" else cores.total,
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
            threads=cores.each,
            lanes=cores.lanes,
            limits=PictureLimits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels),
        )
    return Recognizer(embedder, gallery), _golden_pictures(place)


def find_embedder(path: Path, digest: str) -> Path:
    """Return the directory of an embedder.

    Another embedder beside it may be unreadable, or just being laid there: it is not wanted yet.

    Args:
        path: The embedder, whichever it is; or a folder of several, of which one is wanted.
        digest: Which one.

    Raises:
        ArtifactMismatchError: The folder holds embedders, but not this one.
        ArtifactError: None is this one, and one of them cannot be read.
    """
    if (path / embedders.MANIFEST).exists() or not path.is_dir():
        return path
    places = sorted(manifest.parent for manifest in path.glob(f"*/{embedders.MANIFEST}"))
    found: list[str] = []
    unreadable: list[ArtifactError] = []
    for place in places:
        try:
            found.append(embedders.read_manifest(place)[1])
        except ArtifactError as error:
            unreadable.append(error)
            continue
        if found[-1] == digest:
            return place
    if unreadable:
        raise unreadable[0]
    if not found:
        return path
    raise ArtifactMismatchError(f"embedders in {path}", expected=digest, found=", ".join(found))


def _golden_pictures(place: Path) -> list[bytes]:
    """Return the pictures that an embedder brings along to be proved with."""
    golden = read_npz(place / embedders.GOLDEN)
    return [golden[f"picture_{number}"].tobytes() for number in range(len(golden["vectors"]))]


class Reloader:
    """Switches to what is published.

    Args:
        settings: Where it is, and how it is run.
        batcher: What is switched.
        metrics: Told of every attempt.
        seen: The :func:`fingerprint` from before the batcher's recognizer was opened, so that
            what is published meanwhile is noticed.

    Attributes:
        refusal: What is published and not served, and why; None while it is served.
    """

    def __init__(
        self, settings: Settings, batcher: Batcher, metrics: Metrics, seen: tuple[str, str]
    ) -> None:
        self.refusal: Refusal | None = None
        self._settings = settings
        self._batcher = batcher
        self._metrics = metrics
        self._seen = seen
        self._one_at_a_time = asyncio.Lock()

    async def follow(self) -> None:
        """Look for something new, again and again, until canceled."""
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            try:
                if await asyncio.to_thread(fingerprint, self._settings) != self._seen:
                    await self.try_reload()
            except Exception:  # such as no thread to be had: the next look may succeed
                log.exception("could not look for something new")

    async def try_reload(self) -> None:
        """Switch to what is published; where it is refused, the log and ``refusal`` tell why."""
        try:
            await self.reload()
        except ReloadRefusedError as error:
            log.debug("%s", error)  # reload has logged the reason

    async def reload(self) -> Ready:
        """Switch to what is published, whether or not it is new.

        Returns:
            What answers from now on.

        Raises:
            ReloadRefusedError: It cannot be served; the old pair serves on.
        """
        async with self._one_at_a_time:
            self._seen = await asyncio.to_thread(fingerprint, self._settings)
            try:
                recognizer, pictures = await asyncio.to_thread(
                    open_recognizer, self._settings, self._batcher.recognizer
                )
                _refuse_other_device(recognizer, self._batcher.recognizer)
                await self._batcher.warm(recognizer, pictures)
            except Exception as error:  # whatever is wrong with the new pair, the old serves on
                raise self._refuse(error) from error
            self._batcher.switch(recognizer)
            gc.unfreeze()  # the old pair was there at the start
            self.refusal = None
            self._metrics.refused.set(0)
            self._metrics.reloads.labels("switched").inc()
            ready = recognizer.describe()
            self._metrics.serve(ready)
            log.info("switched: %s", ready.model_dump_json(exclude_none=True))
            return ready

    def _refuse(self, error: Exception) -> ReloadRefusedError:
        kind = type(error).__name__.removesuffix("Error")
        reason = re.sub(r"(?<!^)(?=[A-Z])", "-", kind).lower()
        self.refusal = Refusal(gallery=self._seen[0], reason=reason)
        self._metrics.refused.set(1)
        self._metrics.reloads.labels("refused").inc()
        foreseen = isinstance(error, CairnError)
        log.error(
            "refused %s, the old pair serves on: %s",
            self._seen[0],
            error,
            exc_info=None if foreseen else error,
        )
        return ReloadRefusedError(
            f"what is published is refused ({reason}), and what was served before still is; "
            "the service's log tells more"
        )


def _refuse_other_device(new: Recognizer, old: Recognizer) -> None:
    """Refuse an embedder that does not run where the one that serves does.

    Raises:
        DeviceError: The cores are divided for the one device.
    """
    device, now = new.embedder.device, old.embedder.device
    if device != now:
        raise DeviceError(f"it runs on {device}, the service on {now}; start the service anew")


def fingerprint(settings: Settings) -> tuple[str, str]:
    """Tell what is published, so that a change is noticed: the build, and the embedders there.

    What cannot be read now is told as such, and noticed again once it can be.
    """
    try:
        build = (Store(settings.store).current()) or ""
    except (CairnError, OSError):
        build = "unreadable"
    path = settings.embedder
    try:
        manifests = [path / embedders.MANIFEST, *sorted(path.glob(f"*/{embedders.MANIFEST}"))]
    except OSError:
        return build, "unreadable"
    return build, " ".join(_identity(manifest) for manifest in manifests)


def _identity(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "absent"
    return f"{status.st_ino}.{status.st_mtime_ns}.{status.st_size}"
