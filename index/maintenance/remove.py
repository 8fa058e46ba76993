"""Remove pictures or landmarks from the published gallery, at once and without an embedder.

Their rows get tombstones that searches skip; the next build that writes rows leaves them out.
"""

from collections.abc import Collection
from contextlib import closing
from functools import partial

import numpy as np

from embedder.errors import CatalogError, GalleryError
from index.building.compact import compact_if_due
from index.building.publish import republish
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store
from index.gallery.tombstones import write_tombstones
from photographs import normal_form

_NAMED = 5


def remove(
    store: Store, *, pictures: Collection[str] = (), landmarks: Collection[str] = ()
) -> GalleryManifest:
    """Publish the published gallery once more without some of its pictures.

    All large files are shared with the build before. A removal concerns the sources that the
    gallery has. Earlier removals stay; removing something again changes nothing.

    Args:
        store: Holds the published gallery.
        pictures: Ids of pictures.
        landmarks: Ids of landmarks, all of whose pictures are removed.

    Raises:
        NoGalleryError: Nothing is published.
        StoreBusyError: Another process writes to the store.
        ArtifactError: The published gallery cannot be trusted.
        CatalogError: The gallery has no picture or landmark of an id.
        GalleryError: No picture would be left, or the store cannot be written.
    """
    pictures, landmarks = ({normal_form(one) for one in ids} for ids in (pictures, landmarks))
    with store.writing(), closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        before = gallery.tombstones
        known = before.pictures.keys(), before.landmarks.keys()
        _require_ids(gallery, set(pictures) - known[0], set(landmarks) - known[1])
        sources = len(gallery.manifest.sources)
        tombstones = before.with_more(pictures, landmarks, gallery.catalog, sources)
        if len(tombstones.rows) == len(gallery.catalog):
            raise GalleryError("nothing would be left of the gallery; delete the store instead")
        live = np.delete(gallery.catalog.landmarks, tombstones.rows)
        manifest = republish(
            store,
            gallery,
            write=partial(write_tombstones, tombstones=tombstones),
            removed=len(tombstones.rows),
            landmarks=len(np.unique(live)),
        )
        return compact_if_due(store, manifest)


def _require_ids(gallery: Gallery, pictures: set[str], landmarks: set[str]) -> None:
    catalog, shown = gallery.catalog, set(gallery.landmarks().tolist())
    codes = catalog.landmarks_of_ids(landmarks).items()
    rows = np.setdiff1d(np.flatnonzero(catalog.has_pictures(pictures)), gallery.tombstones.rows)
    missing = {
        "picture": pictures.difference(catalog.column("picture_id").take(rows).to_pylist()),
        "landmark": landmarks - {landmark_id for landmark_id, code in codes if code in shown},
    }
    for what, ids in missing.items():
        if ids:
            named = ", ".join(sorted(ids)[:_NAMED]) + (", …" if len(ids) > _NAMED else "")
            raise CatalogError(gallery.directory, f"it holds no {what} of the id {named}")
