"""Complete the journal of a build: embed the shards that it lacks and write them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from index.building.embedder_choice import LazyEmbedder
from index.building.journal import Journal, Shard
from index.building.pipeline import (
    EmbeddedBatch,
    KnownVectors,
    cut,
    embed_files,
    progress_bar,
    reader_count,
)
from index.building.recipe import BuildRecipe
from index.building.stage_timing import WRITE, StageTimes
from index.building.unreadable import UnreadablePictures
from index.gallery.gallery import Gallery

_log = logging.getLogger(__name__)


def complete_journal(
    journal: Journal,
    unreadable: UnreadablePictures,
    embedder: LazyEmbedder,
    recipe: BuildRecipe,
    gallery: Gallery | None,
) -> None:
    """Embed what a journal lacks.

    Args:
        journal: Completed.
        unreadable: Collects the unreadable pictures of all its shards.
        embedder: Loaded only if a shard is missing.
        recipe: Options of the build.
        gallery: Made by the same embedder; a content that it has is not embedded again.

    Raises:
        TooManyUnreadableError: Too many pictures cannot be read.
    """
    missing = []
    for number in range(len(journal)):
        if (shard := journal.read_current(number)) is None:
            missing.append(number)
        else:
            unreadable.add(number, shard)
    total = len(journal.photographs)
    left = sum(len(journal.shard_photographs(number)) for number in missing)
    if left < total:
        _log.info("%d of %d pictures were embedded before; resuming", total - left, total)
    if not missing:
        return
    times = StageTimes(reader_count(recipe.readers))
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
            unreadable.add(number, shard)
            bar.set_postfix_str(str(times), refresh=False)
            bar.update(len(shard.pictures))
        if writing is not None:
            writing.result()
    shares = ", ".join(f"{stage} {share:.0%}" for stage, share in times.shares().items())
    _log.info("%d pictures embedded; busy: %s; %s", left, shares, times)


def _write_shard(journal: Journal, number: int, shard: Shard, times: StageTimes) -> None:
    with times.busy(WRITE):
        journal.write(number, shard)


def _embed_shards(
    journal: Journal,
    numbers: Sequence[int],
    embedder: Embedder,
    recipe: BuildRecipe,
    gallery: Gallery | None,
    times: StageTimes,
) -> Iterator[tuple[int, Shard]]:
    """Embed shards one after the other; no batch spans two of them."""
    size = recipe.batch_pictures
    paths = ([photograph.path for photograph in journal.shard_photographs(n)] for n in numbers)
    embedded = embed_files(
        (batch for shard in paths for batch in cut(shard, size)),
        embedder,
        readers=recipe.readers,
        known=None if gallery is None else _vectors_by_content(gallery),
        times=times,
        thumbnail_side=recipe.thumbnail_side or 0,
    )
    for number in numbers:
        photographs = journal.shard_photographs(number)
        batch = EmbeddedBatch.join(islice(embedded, math.ceil(len(photographs) / size)))
        yield number, Shard(photographs, batch.pictures, batch.vectors, batch.thumbnails)


def _vectors_by_content(gallery: Gallery) -> KnownVectors:
    rows = {sha256: row for row, sha256 in enumerate(gallery.catalog.column("sha256"))}

    def find(sha256: bytes) -> NDArray[np.float32] | None:
        row = rows.get(sha256)
        return None if row is None else gallery.vectors(np.array([row]))[0]

    return find
