"""What a build is about to do, and whether the disk can hold it; said before it starts."""

import logging
import shutil

import numpy as np

from embedder.errors import GalleryError
from index.building.embedder_choice import LazyEmbedder
from index.building.plan import RowPlan
from index.building.recipe import BuildRecipe
from index.gallery.store import Store
from index.search.kind_check import check_kind
from index.search.kinds import AUTO, FP16_BYTES, resolve

_ROW_BYTES = 400
"""Of a picture beside its vector: in the catalog and in the cache of unfinished builds."""

_THUMBNAIL_BYTES = 0.35
"""For each pixel of the square that a thumbnail fits into."""

_CACHED_BYTES = 4.6
"""For each number of a vector in the cache: four bytes, and what SQLite leaves empty."""

_log = logging.getLogger(__name__)


def foresee(
    store: Store, plan: RowPlan, embedder: LazyEmbedder, recipe: BuildRecipe, missing: int
) -> None:
    """Say how many pictures a build has, how many it has to embed, and the disk it needs.

    What cannot be made of so many pictures is refused before the first one is read.

    Args:
        store: Where it is built.
        plan: Its rows.
        embedder: What will embed.
        recipe: Options.
        missing: How many pictures have to be read.

    Raises:
        GalleryError: The disk has no room for it, or the kind cannot be made.
    """
    total, needed = len(plan.sources), _needed_bytes(plan, embedder, recipe, missing)
    _check_kind(plan, embedder, recipe)
    free = shutil.disk_usage(store.path).free
    disk = f"{_gigabytes(needed)} GB of disk, of which {_gigabytes(free)} GB are free"
    landmarks = len(np.unique(plan.sources.photographs.labels))
    if missing:
        _log.info(
            "%d pictures of %d landmarks; %d are known and %d will be embedded; it needs up to %s",
            *(total, landmarks, total - missing, missing, disk),
        )
    if needed > free:
        raise GalleryError(f"{store.path} has no room for the gallery, which needs {disk}")


def _check_kind(plan: RowPlan, embedder: LazyEmbedder, recipe: BuildRecipe) -> None:
    published = AUTO if plan.gallery is None else plan.gallery.manifest.asked_kind
    rows, dimension = len(plan.sources), embedder.dimension
    kind = resolve(recipe.kind or published, rows, dimension=dimension)
    check_kind(kind, rows=rows, dimension=dimension)


def _needed_bytes(
    plan: RowPlan, embedder: LazyEmbedder, recipe: BuildRecipe, missing: int
) -> float:
    """Bound what is written: the cache, and while codes are made two files of vectors."""
    total, dimension = len(plan.sources), embedder.dimension
    thumbnail = _THUMBNAIL_BYTES * (recipe.thumbnail_side or 0) ** 2
    cached = missing * (_CACHED_BYTES * dimension + _ROW_BYTES + thumbnail)
    stays = int(np.count_nonzero(plan.stays))
    if 2 * stays >= total:  # they are shared
        total -= stays
    per_row = 2.2 * FP16_BYTES * dimension + _ROW_BYTES + thumbnail
    return cached + len(plan.sources) * _ROW_BYTES + total * per_row


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:.1f}"
