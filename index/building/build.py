"""Build a gallery: sources, row plan, journal, writer.

A build may be killed at any point. Embedded pictures are kept in a journal
(:mod:`index.building.journal`) whose name is a digest of everything that decides the vectors;
the next build of the same photographs with the same embedder resumes from it. Readers see the
old gallery until the new one is complete. Whether rows come from the network or from an earlier
gallery (:mod:`index.building.plan`), the files are the same.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from embedder.errors import GalleryError
from index.building.embedder_choice import LazyEmbedder
from index.building.journal import SHARD_PICTURES, Journal
from index.building.pipeline import (
    WRITE,
    EmbeddedBatch,
    KnownVectors,
    StageTimes,
    cut,
    embed_files,
    progress_bar,
    reader_count,
)
from index.building.plan import RowPlan
from index.building.recipe import BuildRecipe
from index.building.sources import list_digest, merge_sources, read_source
from index.building.unreadable import REPORT, UnreadablePictures
from index.building.writer import GalleryWriter
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store
from photographs import PhotographSet

_log = logging.getLogger(__name__)


def build(
    store: Store, embedder: Embedder, data: PhotographSet, recipe: BuildRecipe | None = None
) -> GalleryManifest:
    """Build a gallery and publish it.

    The same photographs and the same embedder make the same files, however often the build was
    killed before.

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

    The caller is the writer of the store; returns the manifest that is published now.
    """
    total, photographs = len(plan.sources), plan.new()
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
    _complete_journal(journal, unreadable, embedder, recipe, plan.gallery)
    if len(unreadable) == total:
        raise GalleryError(f"none of the pictures can be read; {unreadable.write()} lists them")
    report = [*plan.unreadable, *unreadable.lines()]
    manifest = GalleryWriter(plan, journal, embedder, recipe, report).publish(store)
    journal.discard()
    return manifest


def _complete_journal(
    journal: Journal,
    unreadable: UnreadablePictures,
    embedder: LazyEmbedder,
    recipe: BuildRecipe,
    gallery: Gallery | None,
) -> None:
    """Embed what a journal lacks, and collect the unreadable pictures of all its shards.

    The embedder is loaded only if a shard is missing; a content of ``gallery`` is not embedded
    again.
    """
    missing = []
    total = len(journal.photographs)
    for number in range(len(journal)):
        if (shard := journal.read_current(number)) is None:
            missing.append(number)
        else:
            unreadable.add(number, journal.shard_photographs(number), shard.pictures)
    left = sum(len(journal.shard_photographs(number)) for number in missing)
    if left < total:
        _log.info("%d of %d pictures were embedded before; resuming", total - left, total)
    if not missing:
        return
    times = StageTimes(reader_count(recipe.pipeline.readers))
    with (
        embedder.open() as opened,
        progress_bar(total, done=total - left, what="embed") as bar,
        ThreadPoolExecutor(1, "writer") as writer,
    ):
        writing: Future[None] | None = None
        for number, shard in _embed_shards(journal, missing, opened, recipe, gallery, times):
            if writing is not None:
                writing.result()
            writing = writer.submit(_write_shard, journal, number, shard, times)
            unreadable.add(number, journal.shard_photographs(number), shard.pictures)
            bar.set_postfix_str(str(times), refresh=False)
            bar.update(len(shard.pictures))
        if writing is not None:
            writing.result()
    shares = ", ".join(f"{stage} {share:.0%}" for stage, share in times.shares().items())
    _log.info("%d pictures embedded; busy: %s; %s", left, shares, times)


def _write_shard(journal: Journal, number: int, shard: EmbeddedBatch, times: StageTimes) -> None:
    with times.busy(WRITE):
        journal.write(number, shard)


def _embed_shards(
    journal: Journal,
    numbers: Sequence[int],
    embedder: Embedder,
    recipe: BuildRecipe,
    gallery: Gallery | None,
    times: StageTimes,
) -> Iterator[tuple[int, EmbeddedBatch]]:
    """Embed shards one after the other; no batch spans two of them."""
    size = recipe.pipeline.batch_pictures
    paths = ([photograph.path for photograph in journal.shard_photographs(n)] for n in numbers)
    embedded = embed_files(
        (batch for shard in paths for batch in cut(shard, size)),
        embedder,
        readers=recipe.pipeline.readers,
        known=None if gallery is None else _vectors_by_content(gallery),
        times=times,
        thumbnail_side=recipe.thumbnail_side or 0,
    )
    for number in numbers:
        batches = math.ceil(len(journal.shard_photographs(number)) / size)
        yield number, EmbeddedBatch.join(islice(embedded, batches))


def _vectors_by_content(gallery: Gallery) -> KnownVectors:
    rows = {sha256: row for row, sha256 in enumerate(gallery.catalog.column("sha256"))}

    def find(sha256: bytes) -> NDArray[np.float32] | None:
        row = rows.get(sha256)
        return None if row is None else gallery.vectors(np.array([row]))[0]

    return find
