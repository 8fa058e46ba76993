"""Add a folder of photographs to the published gallery, embedding only what is new."""

from contextlib import closing
from dataclasses import replace

from embedder.errors import ArtifactMismatchError, CatalogError
from index.building.build import write_gallery
from index.building.embedded import Tally
from index.building.embedder_choice import EmbedderChoice
from index.building.plan import plan_changes
from index.building.recipe import BuildRecipe
from index.building.sources import Source, merge_sources, read_source
from index.building.stored import stored_sources
from index.building.unreadable import REPORT, read_left_out, set_aside
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest, ListReference
from index.gallery.store import Store
from photographs import PhotographSet


def add(
    store: Store,
    embedder: EmbedderChoice,
    data: PhotographSet,
    recipe: BuildRecipe | None = None,
    tally: Tally | None = None,
    *,
    prefix: str = "",
) -> GalleryManifest:
    """Add the photographs of a data folder to the published gallery.

    The folder becomes a source of the gallery, which later rebuilds read too; adding it again
    brings it up to date, with what was removed of it; what was removed of other sources stays out.
    Pictures of other sources are not read and may be absent.

    Args:
        store: Holds the published gallery.
        embedder: The one that made the gallery.
        data: The photographs, of landmarks of the gallery or of others.
        recipe: Options, and which list of the folder; thumbnails stay as the gallery has them.
        tally: Is told how many pictures were embedded.
        prefix: What stands before its ids in the gallery; by default nothing, or the name of the
            folder where an id is that of another picture.

    Raises:
        NoGalleryError: Nothing is published.
        StoreBusyError: Another process writes to the store.
        ArtifactMismatchError: The gallery has another embedder, device or precision.
        ArtifactError: The published gallery, or the embedder, cannot be trusted.
        TooManyUnreadableError: Too many pictures cannot be read; what was published stays.
        GalleryError: The store cannot be written.
        CatalogError: The list is faulty, or has another prefix already.
    """
    recipe = recipe or BuildRecipe()
    with store.writing(), closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        published = gallery.manifest
        pipeline = recipe.pipeline.within(published.limits)
        recipe = replace(recipe, pipeline=pipeline, thumbnail_side=published.thumbnail_side)
        lazy = embedder.run_like(published.embedder)
        if lazy.reference != published.embedder:
            raise ArtifactMismatchError(
                f"embedder of the gallery {gallery.directory}, which only a rebuild can change",
                expected=str(published.embedder),
                found=str(lazy.reference),
            )
        new = read_source(data, recipe.list_name, prefix=prefix)
        members = stored_sources(gallery)
        keys = [source.reference.key for source in members]
        place = keys.index(new.reference.key) if new.reference.key in keys else len(members)
        if place < len(members):
            new = _keep_prefix(members[place].reference, new)
        members[place : place + 1] = [new]
        tombstones = gallery.tombstones.without_source(place)
        sources = merge_sources(members, tombstones)
        trusted = set(range(len(members))) - {place}
        known = read_left_out(gallery.directory / REPORT)
        if pipeline.limits(published.limits) != published.limits:
            known = [line for line in known if line.source in trusted]
        sources, known = set_aside(sources, known, trusted)
        plan = plan_changes(gallery, sources, trusted=trusted, readers=recipe.pipeline.readers)
        plan = replace(plan, unreadable=known)
        return write_gallery(store, plan, lazy, recipe, tally)


def _keep_prefix(known: ListReference, new: Source) -> Source:
    if new.reference.prefix not in ("", known.prefix):
        reason = (
            f"its ids in the gallery begin with {known.prefix!r}; drop it to add it with another"
        )
        raise CatalogError(new.root, reason)
    update = {"prefix": known.prefix}
    return replace(new, reference=new.reference.model_copy(update=update))
