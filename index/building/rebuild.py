"""Bring the published gallery up to date, embedding only what is new.

The new build shares the segments of the published one; what is new becomes another. Where most is
new, its files are those of a build from nothing. A killed rebuild is resumed by the next.
"""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from embedder.errors import CatalogError
from index.building.build import write_gallery
from index.building.embedded import Tally
from index.building.embedder_choice import EmbedderChoice, LazyEmbedder
from index.building.extras import Extras
from index.building.plan import RowPlan, plan_changes
from index.building.recipe import BuildRecipe
from index.building.sources import Source, merge_sources, read_source
from index.building.unreadable import REPORT, read_left_out, set_aside
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store
from index.ranking.ranking import Ranking
from index.search.kinds import AUTO, EXACT, FASTSCAN
from photographs import open_data

_log = logging.getLogger(__name__)


def rebuild(
    store: Store,
    embedder: EmbedderChoice,
    recipe: BuildRecipe | None = None,
    *,
    data: Sequence[Path] = (),
    by_content: bool = False,
    tally: Tally | None = None,
) -> GalleryManifest:
    """Build the published gallery anew from its sources, embedding only what has changed.

    A picture has changed if its size or modification time has, and its content too. Removed
    pictures stay out. With another embedder, or another device or precision, everything is
    embedded; the ranking is kept only for the same embedder, as is a kind of the user's choice. For
    thumbnails of another size every picture is read, but not embedded. If nothing has changed, the
    published build stays.

    Args:
        store: Holds the published gallery.
        embedder: The gallery's own, or another.
        recipe: Options; a list that is named there replaces that of the gallery's first source.
        data: Data folders of the gallery's sources, in their order, if they have moved.
        by_content: Read every file, to find changes that kept size and modification time.
        tally: Is told how many pictures were embedded.

    Raises:
        NoGalleryError: Nothing is published.
        StoreBusyError: Another process writes to the store.
        ArtifactError: The published gallery, or the embedder, cannot be trusted.
        TooManyUnreadableError: Too many pictures cannot be read; what was published stays.
        GalleryError: The store cannot be written.
        CatalogError: A list is missing or faulty, or ``data`` has the wrong number of folders.
    """
    recipe = recipe or BuildRecipe()
    with store.writing(), closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        published = gallery.manifest
        if recipe.thumbnail_side is None:
            recipe = replace(recipe, thumbnail_side=published.thumbnail_side)
        recipe = replace(recipe, pipeline=recipe.pipeline.within(published.limits))
        same_limits = recipe.pipeline.limits(published.limits) == published.limits
        members = _read_sources(published, data, recipe.list_name)
        sources = merge_sources(members, gallery.tombstones)
        lazy = embedder.run_like(published.embedder)
        if lazy.reference != published.embedder:
            recipe = _keep_choices(published, lazy, recipe)
            _warn_of_losses(published, lazy, recipe)
            plan = RowPlan.read_all(sources)
        elif recipe.thumbnail_side not in (0, published.thumbnail_side):
            plan = RowPlan.read_all(sources, gallery)
        else:
            doubtful = by_content or not same_limits
            known = [] if doubtful else read_left_out(gallery.directory / REPORT)
            sources, known = set_aside(sources, known)
            readers = recipe.pipeline.readers
            plan = plan_changes(gallery, sources, by_content=by_content, readers=readers)
            plan = replace(plan, unreadable=known)
        return write_gallery(store, plan, lazy, recipe, tally)


def _read_sources(
    published: GalleryManifest, data: Sequence[Path], list_name: str | None
) -> list[Source]:
    members = [Source.dropped(reference) for reference in published.sources]
    places = [n for n, source in enumerate(members) if not source.reference.dropped]
    folders = list(data) or [members[place].root for place in places]
    if len(folders) != len(places):
        known = ", ".join(members[place].reference.data for place in places)
        counts = f"{len(folders)} data folders are given and the gallery has {len(places)}"
        raise CatalogError(folders[0], f"{counts}: {known}")
    for place, folder in zip(places, folders, strict=True):
        reference = members[place].reference
        name = list_name if list_name and place == places[0] else reference.name
        if not folder.is_dir():
            ways = "cairn-index sources relocate says where it is now, drop does without it"
            raise CatalogError(folder, f"the folder is gone; {ways}")
        data_set = open_data(folder, reference.layout)
        members[place] = read_source(data_set, name, prefix=reference.prefix)
    return members


def _keep_choices(
    published: GalleryManifest, embedder: LazyEmbedder, recipe: BuildRecipe
) -> BuildRecipe:
    """Keep the ranking rule and the kind if the same embedder runs on another device.

    Of another embedder only a kind that suits any vectors is kept. Penalties are not: their
    distractors are vectors of before.
    """
    if embedder.reference.digest != published.embedder.digest:
        suits = published.asked_kind in (EXACT.name, FASTSCAN)
        return replace(recipe, kind=recipe.kind or published.asked_kind) if suits else recipe
    rule = {name: getattr(published.ranking, name) for name in ("rule", "neighbors", "power")}
    extras = recipe.extras or Extras(embedder.ranking.model_copy(update=rule))
    return replace(recipe, extras=extras, kind=recipe.kind or published.asked_kind)


def _warn_of_losses(
    published: GalleryManifest, embedder: LazyEmbedder, recipe: BuildRecipe
) -> None:
    """Log which choices of the gallery the next build, with other vectors, does not keep."""
    losses = []
    if published.calibration is not None or published.distractors is not None:
        losses.append("calibration and distractors belong to the old vectors")
    ranking = recipe.extras.ranking if recipe.extras else embedder.ranking
    old, new = _describe(published.ranking), _describe(ranking)
    if old != new:
        losses.append(f"the ranking was {old} and is now {new}")
    if recipe.kind is None and published.asked_kind != AUTO:
        losses.append(f"the kind was {published.asked_kind} and is now {AUTO}")
    if losses:
        _log.warning("all pictures are embedded anew; not kept: %s", "; ".join(losses))


def _describe(ranking: Ranking) -> str:
    if ranking.rule == "top1":
        return ranking.rule
    return f"a {ranking.rule} of {ranking.neighbors} to the power of {ranking.power:g}"
