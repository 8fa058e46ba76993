"""The sources of a gallery: list them, drop one, say where one lies now.

Nothing is embedded. A source that is dropped may be gone: only the gallery is read.
"""

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedder.errors import CatalogError
from index.building.pipeline import find_files
from index.building.publish import republish
from index.building.unreadable import REPORT, count_unreadable, read_left_out, write_left_out
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest, ListReference
from index.gallery.store import Store
from index.maintenance.remove import publish_removal
from photographs import PhotographList

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredSource:
    """One source of a gallery.

    Attributes:
        data: Its data folder.
        list: Its list.
        prefix: What its ids begin with in the gallery.
        listed: Pictures that it listed when it was last read.
        rows: Pictures that the gallery has of it, without removed ones.
        present: Whether the folder is there.
    """

    data: str
    list: str
    prefix: str
    listed: int
    rows: int
    present: bool


def list_sources(store: Store) -> list[StoredSource]:
    """List the sources of the published gallery, in the order in which they were added.

    Raises:
        NoGalleryError: Nothing is published.
        ArtifactError: The published gallery cannot be trusted.
    """
    with closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        live = gallery.catalog.numbers("source")[gallery.live_rows()]
        rows = np.bincount(live, minlength=len(gallery.manifest.sources)).tolist()
        return [
            StoredSource(
                source.data,
                source.name,
                source.prefix,
                source.pictures,
                rows[place],
                Path(source.data).is_dir(),
            )
            for place, source in enumerate(gallery.manifest.sources)
            if not source.dropped
        ]


def drop_source(store: Store, data: Path, list_name: str | None = None) -> GalleryManifest:
    """Publish the published gallery without the pictures of a source.

    Later builds do not read it. What was removed of it is forgotten: adding it again brings all
    of it. Pictures that another source lists too come back with the next rebuild.

    Args:
        store: Holds the published gallery.
        data: The data folder, which may be gone.
        list_name: Its list, where several lists of the folder are sources.

    Raises:
        NoGalleryError: Nothing is published.
        StoreBusyError: Another process writes to the store.
        ArtifactError: The published gallery cannot be trusted.
        CatalogError: The gallery has no such source, or several.
        GalleryError: No picture would be left, or the store cannot be written.
    """
    with store.writing(), closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        place, reference = _find(gallery, data, list_name)
        before, own = gallery.tombstones, gallery.catalog.numbers("source") == place
        own[before.rows] = True
        rows = np.flatnonzero(own)
        lines = read_left_out(gallery.directory / REPORT)
        left = [line for line in lines if line.source != place]
        dropped = reference.model_copy(update={"dropped": True})
        first, *added = _with_source(gallery, place, dropped)
        return publish_removal(
            store,
            gallery,
            before.without_source(place).with_rows(rows),
            write=lambda directory: write_left_out(directory / REPORT, left),
            unreadable=count_unreadable(left),
            list=first,
            added=tuple(added),
        )


def relocate_source(
    store: Store, data: Path, to: Path, list_name: str | None = None
) -> GalleryManifest:
    """Publish the published gallery once more, with a source at another place.

    Args:
        store: Holds the published gallery.
        data: The data folder of before, which may be gone.
        to: Where its pictures are now, under the same names.
        list_name: Its list, where several lists of the folder are sources.

    Raises:
        NoGalleryError: Nothing is published.
        StoreBusyError: Another process writes to the store.
        ArtifactError: The published gallery cannot be trusted.
        CatalogError: The gallery has no such source, or several; it has the new one already, or
            no picture is at the new place.
        GalleryError: The store cannot be written.
    """
    with store.writing(), closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        place, reference = _find(gallery, data, list_name)
        moved = reference.model_copy(update={"data": str(to.resolve())})
        if moved.key in [source.key for source in gallery.manifest.sources]:
            raise CatalogError(to, "the gallery has this folder already")
        _require_pictures(gallery, place, to.resolve())
        first, *added = _with_source(gallery, place, moved)
        return republish(store, gallery, list=first, added=tuple(added))


def _find(gallery: Gallery, data: Path, list_name: str | None) -> tuple[int, ListReference]:
    """Return the source of a folder with its index in the manifest."""
    folder, known = str(data.resolve()), [s for s in gallery.manifest.sources if not s.dropped]
    found = [s for s in known if s.data == folder and list_name in (None, s.name)]
    if not found:
        folders = ", ".join(sorted({source.data for source in known}))
        raise CatalogError(data, f"it is no source of the gallery; there are {folders}")
    if len(found) > 1:
        lists = ", ".join(source.name for source in found)
        raise CatalogError(data, f"several of its lists are sources; name one by --list: {lists}")
    return gallery.manifest.sources.index(found[0]), found[0]


def _with_source(gallery: Gallery, place: int, reference: ListReference) -> list[ListReference]:
    """Return the sources of a gallery where one is another."""
    sources = list(gallery.manifest.sources)
    sources[place] = reference
    return sources


def _require_pictures(gallery: Gallery, place: int, root: Path) -> None:
    """Look for the pictures of a source in a folder, and warn if some are not there."""
    catalog = gallery.catalog
    own = catalog.numbers("source") == place
    own[gallery.tombstones.rows] = False
    rows = np.flatnonzero(own)
    if not rows.size:
        return
    ids, files = (
        catalog.column(name).take(rows).combine_chunks() for name in ("picture_id", "path")
    )
    photographs = PhotographList(ids, [], np.zeros(len(rows), np.int32), root, files)
    sizes = [states[:, 0] for _, states in find_files(photographs)]
    found = np.concatenate(sizes) == catalog.numbers("bytes")[rows]
    if not found.any():
        raise CatalogError(root, f"none of its {len(rows)} pictures is there")
    if missing := len(rows) - np.count_nonzero(found):
        _log.warning("%d of %d pictures are not in %s as they were", missing, len(rows), root)
