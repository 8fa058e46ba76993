"""Take pictures or landmarks out of the published gallery, at once and without an embedder.

The rows stay where they are and are marked; searches pass over them, and the next build that
writes rows anew leaves them out for good.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import closing
from datetime import UTC, datetime

from embedder.artifacts.files import record
from embedder.errors import CatalogError, GalleryError
from index.building.build import link, says_the_same
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest, write_manifest
from index.gallery.store import Store
from index.gallery.tombstones import REMOVED, Removed, read_removed, write_removed

_NAMED = 5

_log = logging.getLogger(__name__)


def remove(
    store: Store, *, pictures: Collection[str] = (), landmarks: Collection[str] = ()
) -> GalleryManifest:
    """Publish the published gallery once more without some of its pictures.

    All large files are shared with the build before. What was removed before stays removed, and
    removing it again changes nothing.

    Args:
        store: Holds the published gallery.
        pictures: Ids of pictures.
        landmarks: Ids of landmarks; all their pictures go.

    Returns:
        The manifest of the gallery that is now published.

    Raises:
        NoGalleryError: Nothing is published.
        StoreBusyError: Another process writes to the store.
        ArtifactError: The published gallery cannot be trusted.
        CatalogError: The gallery holds none of that id.
        GalleryError: Nothing would be left, or the store cannot be written.
    """
    with store.writing(), closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        before = read_removed(gallery.directory)
        _demand_held(gallery, set(pictures) - before.pictures, set(landmarks) - before.landmarks)
        removed = before.with_more(pictures, landmarks)
        rows = removed.rows(gallery.catalog)
        if len(rows) == len(gallery.catalog):
            raise GalleryError("nothing would be left of the gallery; delete the store instead")
        return _publish(store, gallery, removed, rows)


def _demand_held(gallery: Gallery, pictures: set[str], landmarks: set[str]) -> None:
    catalog = gallery.catalog
    missing = {
        "picture": pictures.difference(catalog.column("picture_id")) if pictures else set(),
        "landmark": landmarks.difference(map(catalog.landmark_id, range(catalog.landmark_count))),
    }
    for what, ids in missing.items():
        if ids:
            named = ", ".join(sorted(ids)[:_NAMED]) + (", …" if len(ids) > _NAMED else "")
            raise CatalogError(gallery.directory, f"it holds no {what} of the id {named}")


def _publish(store: Store, gallery: Gallery, removed: Removed, rows: list[int]) -> GalleryManifest:
    before, build_id = gallery.manifest, store.new_build_id()
    with store.staging(build_id) as staged:
        for name in before.files:
            if name != REMOVED:
                link(gallery.directory / name, staged / name)
        write_removed(staged, removed, rows)
        manifest = before.model_copy(
            update={
                "build_id": build_id,
                "removed": len(rows),
                "created": datetime.now(UTC).replace(microsecond=0),
                "files": {**before.files, REMOVED: record(staged / REMOVED)},
            }
        )
        if says_the_same(manifest, before):
            _log.info("nothing has changed; %s stays published", before.build_id)
            return before
        write_manifest(staged, manifest)
        Gallery.open_directory(staged, embedder_digest=None).close()
        store.publish(build_id)
    return manifest
