"""The builds of a store: list them, go back to one, delete old ones."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from embedder.artifacts.files import check_files
from embedder.errors import ArtifactError, GalleryError
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest, read_manifest
from index.gallery.store import Store

KEEP_BUILDS = 3
"""How many builds a store keeps when it is cleaned, unless another number is asked for."""

IDLE_HOURS = 24.0
"""After so long without progress an unfinished build is taken for abandoned."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Build:
    """One build of a store, for people.

    Attributes:
        build_id: Its name.
        current: Whether it is the published one.
        created: When it was made; ``None`` where its manifest cannot be read.
        kind: How it is searched; likewise.
        rows: How many vectors it has, removed ones included; likewise.
        removed: How many of them are removed; likewise.
        landmarks: How many landmarks they show; likewise.
        embedder: Digest of its embedder; likewise.
        fault: Why its manifest cannot be read; empty where it can.
    """

    build_id: str
    current: bool
    created: datetime | None = None
    kind: str | None = None
    rows: int | None = None
    removed: int | None = None
    landmarks: int | None = None
    embedder: str | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was deleted.

    Attributes:
        builds: Ids of old builds.
        unfinished: Work folders of abandoned builds.
        kept: Ids of the builds that are left.
    """

    builds: list[str]
    unfinished: list[str]
    kept: list[str]


def list_builds(store: Store) -> list[Build]:
    """List the builds of a store, oldest first; an unreadable one with its fault."""
    current = store.current()
    found = []
    for build_id in store.build_ids():
        is_current = build_id == current
        try:
            manifest = read_manifest(store.directory(build_id))
        except ArtifactError as error:
            found.append(Build(build_id, is_current, fault=str(error)))
            continue
        found.append(
            Build(
                build_id,
                is_current,
                manifest.created,
                manifest.kind,
                manifest.rows,
                manifest.removed,
                manifest.landmarks,
                manifest.embedder.digest,
            )
        )
    return found


def roll_back(store: Store, build_id: str | None = None) -> GalleryManifest:
    """Publish a build that is there, every byte of it checked before.

    Args:
        store: The store.
        build_id: By default the newest of those older than the published one.

    Returns:
        Its manifest.

    Raises:
        NoGalleryError: Nothing is published.
        GalleryError: There is no older build, or the store cannot be written.
        StoreBusyError: Another process writes to the store.
        ArtifactError: The build is not there, or damaged.
    """
    with store.writing():
        current = store.directory().name
        if build_id is None:
            older = [name for name in store.build_ids() if name < current]
            if not older:
                raise GalleryError(f"{store.path} has no build older than {current}, the published")
            build_id = older[-1]
        directory = store.directory(build_id)
        gallery = Gallery.open_directory(directory, embedder_digest=None)
        gallery.close()
        check_files(directory, gallery.manifest.files, deep=True)
        store.point_to(build_id)
        return gallery.manifest


def clean(store: Store, *, keep: int = KEEP_BUILDS, idle_hours: float = IDLE_HOURS) -> Cleaned:
    """Delete old builds, and the work of builds that nobody has gone on with.

    What a killed writer left half written goes too. A service that has a deleted build open
    keeps it until it opens another.

    Args:
        store: The store.
        keep: How many of the newest builds stay, at least 1; the published one stays anyway.
        idle_hours: How long nothing must have been written to an unfinished build.

    Raises:
        StoreBusyError: Another process writes to the store.
        GalleryError: The store cannot be written.
    """
    with store.writing():
        builds, current = store.build_ids(), store.current()
        kept = [name for name in builds if name in builds[-keep:] or name == current]
        doomed = [name for name in builds if name not in kept]
        for name in doomed:
            store.delete(name)
        latest = time.time() - 3600 * idle_hours
        unfinished = [path for path in sorted(store.work.iterdir()) if _written(path) < latest]
        for path in unfinished:
            shutil.rmtree(path)
        return Cleaned(doomed, [path.name for path in unfinished], kept)


def _written(path: Path) -> float:
    return max((file.stat().st_mtime for file in path.rglob("*")), default=path.stat().st_mtime)
