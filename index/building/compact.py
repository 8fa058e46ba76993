"""Merge the segments of a gallery into one, without its dead rows.

No picture is read or embedded. The files are those of a build from nothing of the same pictures;
codes are trained anew, and what is derived from all rows is computed again.
"""

import logging
from contextlib import closing
from typing import NoReturn

from embedder.errors import GalleryError
from index.building.embedder_choice import LazyEmbedder
from index.building.forecast import foresee
from index.building.pipeline import DEFAULT_OPTIONS
from index.building.plan import plan_changes
from index.building.recipe import BuildRecipe
from index.building.sources import merge_sources
from index.building.stored import stored_sources
from index.building.unreadable import REPORT, read_left_out, renumber
from index.building.writer import WHOLE_ROWS, GalleryWriter
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store

MAX_SEGMENTS = 16
"""More segments are merged by the writer that finds them: each one adds to the time of a search."""

MAX_DEAD_SHARE = 0.3
"""So are segments with a larger share of dead rows, which take memory and time of every search."""

_log = logging.getLogger(__name__)


def compact(store: Store) -> GalleryManifest:
    """Merge the segments of the published gallery into one, and publish that.

    A gallery of one segment without dead rows stays published.

    Raises:
        NoGalleryError: Nothing is published.
        StoreBusyError: Another process writes to the store.
        ArtifactError: The published gallery cannot be trusted.
        GalleryError: The disk cannot hold it, or the store cannot be written.
    """
    with store.writing():
        return _compact(store)


def compact_if_due(store: Store, manifest: GalleryManifest) -> GalleryManifest:
    """Merge the segments of a gallery that was just published, if they have become too many.

    The caller is the writer of the store. What is published stays where that fails.
    """
    dead = manifest.removed / manifest.rows
    many = len(manifest.segments) >= MAX_SEGMENTS or dead > MAX_DEAD_SHARE
    if manifest.rows < WHOLE_ROWS or not many or store.current() != manifest.build_id:
        return manifest
    _log.info("%s is published; its segments are merged now", manifest.build_id)
    try:
        return _compact(store)
    except (GalleryError, OSError) as error:
        _log.warning("the segments stay as they are until the next command: %s", error)
        return manifest


def _compact(store: Store) -> GalleryManifest:
    with closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        manifest = gallery.manifest
        if not (manifest.segments or manifest.removed):
            return manifest
        kept = [n for n, source in enumerate(manifest.sources) if not source.dropped]
        members = [source for source in stored_sources(gallery) if not source.reference.dropped]
        sources = merge_sources(members, gallery.tombstones.renumbered(kept))
        plan = plan_changes(gallery, sources, trusted=range(len(members)))
        limits = DEFAULT_OPTIONS.within(manifest.limits)
        recipe = BuildRecipe(thumbnail_side=manifest.thumbnail_side, pipeline=limits)
        lazy = LazyEmbedder(manifest.embedder, manifest.dimension, manifest.ranking, _open_none)
        foresee(store, plan, lazy, recipe, missing=0)
        report = renumber(read_left_out(gallery.directory / REPORT), kept)
        return GalleryWriter(plan, None, lazy, recipe, report).publish_whole(store)


def _open_none() -> NoReturn:
    raise ValueError("no picture is embedded here")
