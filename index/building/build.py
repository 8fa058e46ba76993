"""Build a gallery: sources, row plan, journal, writer.

A build may be killed at any point. Embedded pictures are kept in a journal
(:mod:`index.building.journal`) whose name is a digest of everything that decides the vectors;
the next build of the same photographs with the same embedder resumes from it. Readers see the
old gallery until the new one is complete. Whether rows come from the network or from an earlier
gallery (:mod:`index.building.plan`), the files are the same.
"""

from __future__ import annotations

import hashlib
import json

from embedder.embedder import Embedder
from embedder.errors import GalleryError
from index.building.embedder_choice import LazyEmbedder
from index.building.embedding import complete_journal
from index.building.journal import SHARD_PICTURES, Journal
from index.building.plan import RowPlan
from index.building.recipe import BuildRecipe
from index.building.sources import list_digest, merge_sources, read_source
from index.building.unreadable import REPORT, UnreadablePictures
from index.building.writer import GalleryWriter
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store
from photographs import PhotographSet


def build(
    store: Store, embedder: Embedder, data: PhotographSet, recipe: BuildRecipe | None = None
) -> GalleryManifest:
    """Build a gallery and publish it.

    The same photographs and the same embedder make the same files, however often the build was
    killed before.

    Args:
        store: Where the gallery goes.
        embedder: Makes the vectors.
        data: The photographs.
        recipe: Options; the defaults where it is ``None``.

    Returns:
        The manifest of the published gallery.

    Raises:
        StoreBusyError: Another process writes to the store.
        TooManyUnreadableError: Too many pictures cannot be read; what was published stays.
        GalleryError: None of the pictures can be read, the kind cannot be made of them, its
            recall is too low, or the store cannot be written.
        CatalogError: The list is missing or faulty.
    """
    recipe = recipe or BuildRecipe()
    with store.writing():
        sources = merge_sources([read_source(data, recipe.list_name)])
        return write_gallery(store, RowPlan.read_all(sources), LazyEmbedder.of(embedder), recipe)


def write_gallery(
    store: Store, plan: RowPlan, embedder: LazyEmbedder, recipe: BuildRecipe
) -> GalleryManifest:
    """Embed what is new, write the gallery and publish it, unless nothing has changed.

    Args:
        store: Where the gallery goes; the caller is its writer.
        plan: The rows.
        embedder: Embeds the new ones.
        recipe: Options.

    Returns:
        The manifest of the gallery that is now published.
    """
    total = len(plan.sources)
    photographs = plan.new()
    facts = [
        [source.reference.data for source in plan.sources.members],
        list_digest(photographs),
        SHARD_PICTURES,
        embedder.reference.model_dump(),
        recipe.thumbnail_side or 0,
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    directory = store.work / digest[:16]
    journal = Journal(directory, photographs, dimension=embedder.dimension)
    unreadable = UnreadablePictures(total, recipe.limit(total), directory / REPORT)
    complete_journal(journal, unreadable, embedder, recipe, plan.gallery)
    if unreadable.count == total:
        raise GalleryError(f"none of the pictures can be read; {unreadable.write()} lists them")
    report = [*plan.unreadable, *unreadable.lines()]
    manifest = GalleryWriter(plan, journal, embedder, recipe, report).publish(store)
    journal.discard()
    return manifest
