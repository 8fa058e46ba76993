"""Bring the published gallery up to date, or give it more pictures, embedding only what is new.

Both write a new build from the rows of the published one and the pictures that are new, and both
may be killed and run again. What a rebuild makes is, file by file, what a build would make.
"""

from __future__ import annotations

import csv
import logging
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from embedder.artifacts.files import check_files
from embedder.embedder import Embedder
from embedder.errors import ArtifactMismatchError, CatalogError
from embedder.manifest import read_manifest as read_embedder_manifest
from embedder.runtimes.devices import DEVICES
from index.building.build import REPORT, BuildRecipe, Run, asked_kind, write_gallery
from index.building.extras import Furnishing, advised_ranking
from index.building.reuse import find_unchanged, read_again, reuse_nothing
from index.building.sources import Source, open_source, put_together
from index.building.unreadable import ReportLine
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store
from index.gallery.tombstones import Removed, read_removed
from index.ranking.ranking import Ranking
from index.search.kinds import AUTO
from photographs import Credit, Photograph, PhotographSet, open_data

_log = logging.getLogger(__name__)

_PRECISIONS: dict[str, Literal["f32", "bf16"]] = {"f32": "f32", "bf16": "bf16"}


@dataclass(frozen=True, slots=True)
class EmbedderChoice:
    """An embedder that is opened only if there is something to embed.

    Attributes:
        directory: The artifact.
        device: ``auto`` is the one that the published gallery was made on.
        precision: ``auto`` is the one that the published gallery was made in.
        threads: CPU threads for the network; 0 for one per core.
    """

    directory: Path
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "f32", "bf16"] = "auto"
    threads: int = 0

    def open(self) -> Embedder:
        """Open the embedder."""
        return Embedder.load(
            self.directory, device=self.device, precision=self.precision, threads=self.threads
        )

    def run_as(self, published: GalleryManifest) -> Run:
        """Return how to embed, as the published gallery was made where that was not asked for."""
        made = published.embedder
        manifest, digest = read_embedder_manifest(self.directory)
        same = replace(self, device=DEVICES[made.runtime], precision=_PRECISIONS[made.precision])
        asked = (self.device in ("auto", same.device), self.precision in ("auto", same.precision))
        if digest == made.digest and all(asked):
            ranking = advised_ranking(manifest)
            return Run(made, manifest.dimension, ranking, lambda: closing(same.open()))
        return Run.of(self.open())


def rebuild(
    store: Store,
    embedder: EmbedderChoice,
    recipe: BuildRecipe | None = None,
    *,
    data: Sequence[Path] = (),
    by_content: bool = False,
) -> GalleryManifest:
    """Build the published gallery anew from its lists, embedding only what has changed.

    A picture has changed if its size or time of last change has, and its content too; what was
    removed stays out. With another embedder, or another way to run it, everything is embedded;
    what was chosen for the gallery's ranking and kind outlives only the latter. For thumbnails of
    another size every picture is read, and none is embedded for that.
    Where nothing has changed, the published build stays.

    Args:
        store: Holds the published gallery.
        embedder: The gallery's own, or another.
        recipe: How; a list that is named there takes the place of the gallery's first one.
        data: Where the data folders are now, one for each source of the gallery, in its order;
            by default where they were.
        by_content: Read every file: a picture may have changed and kept its size and time.

    Returns:
        The manifest of the gallery that is now published.

    Raises:
        NoGalleryError: Nothing is published.
        StoreBusyError: Another process writes to the store.
        ArtifactError: The published gallery, or the embedder, cannot be trusted.
        TooManyUnreadableError: Too many pictures cannot be read; what was published stays.
        GalleryError: The store cannot be written.
        CatalogError: A list is missing or faulty, or ``data`` names too many or few folders.
    """
    recipe = recipe or BuildRecipe()
    with store.writing(), closing(_open_trusted(store)) as gallery:
        if recipe.thumbnail_side is None:
            recipe = replace(recipe, thumbnail_side=gallery.manifest.thumbnail_side)
        sources = _listed_again(gallery.manifest, data, recipe.list_name)
        wanted = put_together(sources, read_removed(gallery.directory))
        run = embedder.run_as(gallery.manifest)
        if run.reference != gallery.manifest.embedder:
            recipe = _keep_choices(gallery.manifest, run, recipe)
            _tell_what_is_left_behind(gallery.manifest, run, recipe)
            return write_gallery(store, wanted, reuse_nothing(wanted), run, recipe)
        if recipe.thumbnail_side not in (0, gallery.manifest.thumbnail_side):
            return write_gallery(store, wanted, read_again(gallery, wanted), run, recipe)
        reuse = find_unchanged(gallery, wanted, by_content=by_content, readers=recipe.readers)
        return write_gallery(store, wanted, reuse, run, recipe)


def add(
    store: Store,
    embedder: EmbedderChoice,
    data: PhotographSet,
    recipe: BuildRecipe | None = None,
) -> GalleryManifest:
    """Add the photographs of a data folder to the published gallery.

    The folder becomes a source of the gallery, which later rebuilds look at too; added once
    more, it is brought up to date. Pictures that the gallery has are neither read nor asked
    for. Naming what was removed brings it back.

    Args:
        store: Holds the published gallery.
        embedder: The one that made the gallery.
        data: The photographs, of landmarks that the gallery knows or of others.
        recipe: How, and which list of the folder; thumbnails stay as the gallery has them.

    Returns:
        The manifest of the gallery that is now published.

    Raises:
        NoGalleryError: Nothing is published.
        StoreBusyError: Another process writes to the store.
        ArtifactMismatchError: Another embedder made the gallery, or ran otherwise.
        ArtifactError: The published gallery, or the embedder, cannot be trusted.
        TooManyUnreadableError: Too many pictures cannot be read; what was published stays.
        GalleryError: The store cannot be written.
        CatalogError: The list is faulty, or gives another picture an id that is taken.
    """
    recipe = recipe or BuildRecipe()
    with store.writing(), closing(_open_trusted(store)) as gallery:
        recipe = replace(recipe, thumbnail_side=gallery.manifest.thumbnail_side)
        run = embedder.run_as(gallery.manifest)
        if run.reference != gallery.manifest.embedder:
            raise ArtifactMismatchError(
                f"embedder of the gallery {gallery.directory}, which only a rebuild can change",
                expected=str(gallery.manifest.embedder),
                found=str(run.reference),
            )
        new = open_source(data, recipe.list_name)
        sources = _held(gallery)
        places = [place for place, source in enumerate(sources) if source.key == new.key]
        place = places[0] if places else len(sources)
        sources[place : place + 1] = [new]
        removed = read_removed(gallery.directory).without(new.photographs)
        wanted = put_together(sources, removed)
        trusted = set(range(len(sources))) - {place}
        reuse = find_unchanged(gallery, wanted, trusted=trusted, readers=recipe.readers)
        return write_gallery(store, wanted, reuse, run, recipe, _reported(gallery, new, removed))


def _open_trusted(store: Store) -> Gallery:
    """Open the published gallery, every byte of it checked: it is about to be copied."""
    gallery = Gallery.open(store.path, embedder_digest=None)
    check_files(gallery.directory, gallery.manifest.files, deep=True)
    return gallery


def _listed_again(
    manifest: GalleryManifest, data: Sequence[Path], list_name: str | None
) -> list[Source]:
    """Read the lists of a gallery once more."""
    references = manifest.sources
    folders = list(data) or [Path(reference.data) for reference in references]
    if len(folders) != len(references):
        known = ", ".join(reference.data for reference in references)
        raise CatalogError(
            folders[0],
            f"{len(folders)} data folders are given and the gallery has {len(references)}: {known}",
        )
    names = [list_name or references[0].name, *(reference.name for reference in references[1:])]
    pairs = zip(folders, names, strict=True)
    return [open_source(open_data(folder), name) for folder, name in pairs]


def _keep_choices(old: GalleryManifest, run: Run, recipe: BuildRecipe) -> BuildRecipe:
    """Take over what was chosen for a gallery if the same embedder, run otherwise, makes it anew.

    Penalties are not: their distractors are vectors of before.
    """
    if run.reference.digest != old.embedder.digest:
        return recipe
    chosen = {name: getattr(old.ranking, name) for name in ("rule", "neighbors", "power")}
    furnishing = Furnishing(run.ranking.model_copy(update=chosen))
    return replace(
        recipe,
        furnishing=recipe.furnishing or furnishing,
        kind=recipe.kind or _asked_kind(old),
    )


def _asked_kind(old: GalleryManifest) -> str:
    """Return the kind that a gallery was asked to be; one on a GPU is taken to fit there."""
    on_gpu = DEVICES.get(old.embedder.runtime) == "cuda"
    return asked_kind(old, sys.maxsize if on_gpu else 0)


def _tell_what_is_left_behind(old: GalleryManifest, run: Run, recipe: BuildRecipe) -> None:
    """Say what of the gallery is not that of the next build, whose vectors are others."""
    left = []
    if old.calibration is not None or old.distractors is not None:
        left.append("calibration and distractors belong to the vectors before")
    ranking = recipe.furnishing.ranking if recipe.furnishing else run.ranking
    words, kind = (_in_words(old.ranking), _in_words(ranking)), _asked_kind(old)
    if words[0] != words[1]:
        left.append(f"the ranking was {words[0]} and is now {words[1]}")
    if recipe.kind is None and kind != AUTO:
        left.append(f"the kind was {kind} and is now {AUTO}")
    if left:
        _log.warning("all pictures are embedded anew; left behind: %s", "; ".join(left))


def _in_words(ranking: Ranking) -> str:
    if ranking.rule == "top1":
        return ranking.rule
    return f"a {ranking.rule} of {ranking.neighbors} to the power of {ranking.power:g}"


def _held(gallery: Gallery) -> list[Source]:
    """Return the sources of a gallery with the photographs that it holds of each."""
    catalog = gallery.catalog
    ids = [catalog.landmark_id(code) for code in range(catalog.landmark_count)]
    names = {landmark: catalog.name(code) for code, landmark in enumerate(ids)}
    names = {landmark: name for landmark, name in names.items() if name != landmark}
    roots = [Path(reference.data) for reference in gallery.manifest.sources]
    photographs = defaultdict[int, list[Photograph]](list)
    columns = (catalog.column(name) for name in ("picture_id", "path", "source"))
    for code, picture, path, source in zip(catalog.landmarks.tolist(), *columns, strict=True):
        photographs[source].append(Photograph(picture, roots[source] / path, ids[code]))
    return [
        Source(reference, root, photographs[place], names, partial(_held_credits, gallery, place))
        for place, (reference, root) in enumerate(zip(gallery.manifest.sources, roots, strict=True))
    ]


def _held_credits(gallery: Gallery, source: int) -> Iterator[tuple[str, Credit]]:
    """Yield the credits that a gallery holds of the pictures of one of its sources."""
    if gallery.credits is None:
        return
    ids, sources = (gallery.catalog.column(name) for name in ("picture_id", "source"))
    for row, picture in enumerate(ids):
        if sources[row] == source and (credit := gallery.credits[row]) is not None:
            yield picture, credit


def _reported(gallery: Gallery, new: Source, removed: Removed) -> list[ReportLine]:
    """Return the unreadable pictures that the gallery knows of, but for those of a new list."""
    listed = {photograph.id for photograph in new.photographs}
    text = (gallery.directory / REPORT).read_text(encoding="utf-8")
    lines = (ReportLine(**line) for line in csv.DictReader(text.splitlines()))
    return [line for line in lines if line.id not in listed and line.id not in removed.pictures]
