"""The builds of a store: list them, roll back to one, delete old ones."""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from embedder.artifacts.files import check_files
from embedder.errors import ArtifactError, GalleryError
from index.building.vector_cache import CACHE, keep_embedders
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest, read_manifest
from index.gallery.store import Store
from index.maintenance.defaults import IDLE_HOURS, KEEP_BUILDS


@dataclass(frozen=True, slots=True)
class StoredBuild:
    """One build of a store.

    Attributes:
        build_id: Its name.
        current: Whether it is the published one.
        published: Whether it is, or ever was, the published one.
        manifest: ``None`` where it cannot be read.
        fault: Why the manifest cannot be read; empty where it can.
    """

    build_id: str
    current: bool
    published: bool = True
    manifest: GalleryManifest | None = None
    fault: str = ""

    def summary(self) -> dict[str, object]:
        """Return what a person chooses by; ``None`` for what an unreadable manifest would tell."""
        manifest = self.manifest
        names = ("kind", "rows", "removed", "landmarks")
        return {
            "build_id": self.build_id,
            "current": self.current,
            "published": self.published,
            "created": manifest.created.isoformat() if manifest else None,
            **{name: getattr(manifest, name, None) for name in names},
            "embedder": manifest.embedder.digest if manifest else None,
            "fault": self.fault,
        }


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was deleted from a store.

    Attributes:
        builds: Ids of deleted builds.
        unfinished: Names of deleted folders of abandoned work.
        vectors: Deleted vectors of queries, of embedders that no build has.
        kept: Ids of the builds that are left.
    """

    builds: list[str]
    unfinished: list[str]
    vectors: int
    kept: list[str]


def list_builds(store: Store) -> list[StoredBuild]:
    """List the builds of a store, oldest first; an unreadable one with its fault."""
    current = store.current()
    builds = []
    for build_id in store.build_ids():
        manifest, fault = None, ""
        try:
            manifest = read_manifest(store.directory(build_id))
        except ArtifactError as error:
            fault = str(error)
        published = store.was_published(build_id)
        builds.append(StoredBuild(build_id, build_id == current, published, manifest, fault))
    return builds


def roll_back(store: Store, build_id: str | None = None) -> GalleryManifest:
    """Publish an earlier build again after checking every byte of it.

    By default it is the newest one that is older than the published one and was published too.

    Raises:
        NoGalleryError: Nothing is published.
        GalleryError: There is no older build, or the store cannot be written.
        StoreBusyError: Another process writes to the store.
        ArtifactError: The build is missing or damaged.
    """
    with store.writing():
        current = store.directory().name
        if build_id is None:
            older = (name for name in store.build_ids() if name < current)
            build_id = max(filter(store.was_published, older), default=None)
        if build_id is None:
            raise GalleryError(f"{store.path} has no build older than {current}, the published")
        return publish_checked(store, build_id)


def publish_checked(store: Store, build_id: str) -> GalleryManifest:
    """Publish an existing build after checking every byte of it; the caller is the writer.

    Raises:
        ArtifactError: The build is missing or damaged.
    """
    directory = store.directory(build_id)
    with closing(Gallery.open_directory(directory, embedder_digest=None)) as gallery:
        check_files(directory, gallery.manifest.files, deep=True)
    store.point_to(build_id)
    return gallery.manifest


def clean(store: Store, *, keep: int = KEEP_BUILDS, idle_hours: float = IDLE_HOURS) -> Cleaned:
    """Delete old builds, the work of abandoned ones, and vectors of queries that fit to none.

    Incomplete files of a killed writer are deleted too. A service that has a deleted build open
    keeps it until it opens another.

    Args:
        store: The store.
        keep: Number of newest builds that stay, at least 1; the published one stays anyway.
        idle_hours: An unfinished build that was written to within so many hours stays.

    Raises:
        StoreBusyError: Another process writes to the store.
        GalleryError: The store cannot be written.
    """
    with store.writing():
        builds, current = store.build_ids(), store.current()
        kept = [name for name in builds if name in builds[-keep:] or name == current]
        old = [name for name in builds if name not in kept]
        for name in old:
            store.delete(name)
        latest = time.time() - 3600 * idle_hours
        unfinished = [path for path in sorted(store.work.iterdir()) if _last_written(path) < latest]
        for path in unfinished:
            store.discard(path)
        manifests = (build.manifest for build in list_builds(store))
        digests = {manifest.embedder.digest for manifest in manifests if manifest is not None}
        vectors = keep_embedders(store.path / CACHE, digests)
        return Cleaned(old, [path.name for path in unfinished], vectors, kept)


def _last_written(path: Path) -> float:
    return max((file.stat().st_mtime for file in path.rglob("*")), default=path.stat().st_mtime)
