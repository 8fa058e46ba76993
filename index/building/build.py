"""Build a gallery: sources, row plan, embeddings, writer.

A build may be killed at any point. Embedded pictures are kept in a cache of the store
(:mod:`index.building.vector_cache`), from which the next build with the same embedder resumes,
whatever its list. Readers see the old gallery until the new one is complete. Whether rows come
from the network or from an earlier gallery (:mod:`index.building.plan`), the files are the same.
"""

import logging
from collections.abc import Collection
from contextlib import closing

import numpy as np

from embedder.embedder import Embedder
from embedder.errors import GalleryError
from embedder.text import name_some
from index.building.compact import compact_if_due
from index.building.embedded import Tally
from index.building.embedder_choice import LazyEmbedder
from index.building.embeddings import Embeddings
from index.building.forecast import foresee
from index.building.plan import RowPlan
from index.building.recipe import BuildRecipe
from index.building.sources import merge_sources, read_source
from index.building.unreadable import REPORT, UnreadablePictures, list_passed_over
from index.building.vector_cache import CACHE, VectorCache
from index.building.writer import GalleryWriter
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store
from photographs import PhotographSet

_log = logging.getLogger(__name__)


def build(
    store: Store,
    embedder: Embedder,
    data: PhotographSet,
    recipe: BuildRecipe | None = None,
    tally: Tally | None = None,
) -> GalleryManifest:
    """Build a gallery and publish it.

    The same photographs and the same embedder make the same files, however often the build was
    killed before.

    Args:
        store: Where it is published.
        embedder: Embeds the photographs.
        data: The photographs.
        recipe: Options.
        tally: Is told how many pictures were embedded.

    Raises:
        StoreBusyError: Another process writes to the store.
        TooManyUnreadableError: Too many pictures cannot be read; what was published stays.
        GalleryError: None of the pictures can be read, the kind cannot be made of them, its
            recall is too low, the disk cannot hold it, or the store cannot be written.
        CatalogError: The list is missing or faulty.
    """
    recipe = recipe or BuildRecipe()
    with store.writing():
        sources = merge_sources([read_source(data, recipe.list_name)])
        plan = RowPlan.read_all(sources)
        return write_gallery(store, plan, LazyEmbedder.of(embedder), recipe, tally)


def write_gallery(
    store: Store,
    plan: RowPlan,
    embedder: LazyEmbedder,
    recipe: BuildRecipe,
    tally: Tally | None = None,
) -> GalleryManifest:
    """Embed what is new, write the gallery and publish it, unless nothing has changed.

    The embedder is loaded only if a picture has to be read. The caller is the writer of the
    store; returns the manifest that is published now.
    """
    side, options = recipe.thumbnail_side or 0, recipe.pipeline
    origins = plan.sources.origins[plan.rows < 0]
    limit = recipe.limit(len(origins))
    unreadable = UnreadablePictures(origins, limit, store.unfinished / REPORT)
    store.unfinished.mkdir(exist_ok=True)
    cache = VectorCache(store.unfinished / CACHE, embedder.reference, embedder.dimension, side=side)
    with closing(cache):
        embeddings = Embeddings(plan.new(), cache, unreadable)
        embeddings.find(options.readers)
        missing = len(embeddings.missing())
        foresee(store, plan, embedder, recipe, missing)
        if missing:
            with embedder.open() as opened:
                embeddings.complete(opened, options, gallery=plan.gallery, thumbnail_side=side)
        _require_rows(plan, embeddings, unreadable)
        report = sorted([*plan.unreadable, *unreadable.lines(), *list_passed_over(plan.sources)])
        writer = GalleryWriter(plan, embeddings, embedder, recipe, report)
        manifest = compact_if_due(store, writer.publish(store))
        missing_landmarks = plan.sources.missing_landmarks(writer.kept)
        _warn_of_missing(missing_landmarks)
        if tally is not None:
            tally.embedded = embeddings.embedded
            tally.known = writer.rows - embeddings.embedded
            tally.passed_over = plan.sources.passed_over()
            tally.missing_landmarks = len(missing_landmarks)
        finished = _forget(embeddings)
    if finished:
        store.discard(store.unfinished)
    return manifest


def _require_rows(plan: RowPlan, embeddings: Embeddings, unreadable: UnreadablePictures) -> None:
    """Refuse a source of which no picture can be read."""
    usable, origins = plan.rows >= 0, plan.sources.origins
    usable[~usable] = embeddings.usable
    members = len(plan.sources.members)
    listed, read = (np.bincount(own, minlength=members) for own in (origins, origins[usable]))
    empty = np.flatnonzero((listed > 0) & (read == 0))
    if empty.size or not usable.any():
        place = empty[0] if empty.size else 0
        root, report = plan.sources.members[place].root, unreadable.write()
        raise GalleryError(f"none of the pictures of {root} can be read; {report} lists them")


def _warn_of_missing(landmarks: Collection[str]) -> None:
    if landmarks:
        words = "%d landmarks are not in the gallery, since none of their pictures is read: %s"
        _log.warning(words, len(landmarks), name_some(sorted(landmarks)))


def _forget(embeddings: Embeddings) -> bool:
    try:
        return embeddings.forget()
    except OSError as error:  # what was built is published
        _log.warning("%s; cairn-index gc deletes it later", error)
        return False
