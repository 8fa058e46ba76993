"""Remove pictures or landmarks from the published gallery, at once and without an embedder.

Their rows get tombstones that searches skip; the next build that writes rows leaves them out.
"""

from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embedder.errors import CatalogError, GalleryError
from embedder.text import name_some, normal_form
from index.building.compact import compact_if_due
from index.building.publish import republish
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store
from index.gallery.tombstones import Tombstones, write_tombstones


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
        return publish_removal(store, gallery, tombstones)


def publish_removal(
    store: Store,
    gallery: Gallery,
    tombstones: Tombstones,
    *,
    write: Callable[[Path], None] = lambda _: None,
    **changes: Any,  # noqa: ANN401 (fields of the manifest)
) -> GalleryManifest:
    """Publish a gallery with other tombstones, and merge its segments if that is due.

    The caller is the writer of the store; the other arguments are those of
    :func:`index.building.publish.republish`.

    Raises:
        GalleryError: No picture would be left.
    """
    if len(tombstones.rows) == len(gallery.catalog):
        raise GalleryError("nothing would be left of the gallery; delete the store instead")
    live = np.delete(gallery.catalog.landmarks, tombstones.rows)

    def write_all(directory: Path) -> None:
        write_tombstones(directory, tombstones)
        write(directory)

    changes |= {"removed": len(tombstones.rows), "landmarks": len(np.unique(live))}
    return compact_if_due(store, republish(store, gallery, write=write_all, **changes))


def _require_ids(gallery: Gallery, pictures: set[str], landmarks: set[str]) -> None:
    catalog, shown = gallery.catalog, set(gallery.landmarks().tolist())
    codes = catalog.landmarks_of_ids(landmarks).items()
    found = catalog.has_pictures(pictures)
    found[gallery.tombstones.rows] = False
    ids_found = catalog.column("picture_id").filter(pa.array(found)).to_pylist()
    missing = {
        "picture": pictures.difference(ids_found),
        "landmark": landmarks - {landmark_id for landmark_id, code in codes if code in shown},
    }
    for what, ids in missing.items():
        if ids:
            named = name_some(sorted(ids))
            raise CatalogError(gallery.directory, f"it holds no {what} of the id {named}")
