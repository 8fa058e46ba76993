"""Build a gallery: stream the photographs, embed them, store the shards, publish the whole.

A build may be killed anywhere. Embedded pictures are kept in a journal
(:mod:`index.building.journal`)
named after everything that decides the vectors, and the next build of the same list with the
same embedder goes on from there; readers see the old gallery until the new one is complete.
What an earlier gallery holds already need not be embedded again (:mod:`index.building.reuse`): the
rows are put together from both, and the files are the same as if all had been embedded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.files import record
from embedder.embedder import Embedder
from embedder.errors import GalleryError
from embedder.runtimes.devices import DEVICES
from index.building.extras import Furnishing, advised_ranking, furnish
from index.building.journal import SHARD_PICTURES, Journal, Shard
from index.building.pipeline import (
    BATCH_PICTURES,
    Known,
    ReadPicture,
    embed_files,
    progress_bar,
    reader_count,
)
from index.building.recall import prove
from index.building.reuse import Reuse, known_contents, reuse_nothing
from index.building.sources import Wanted, list_digest, open_source, put_together
from index.building.stage_timing import WRITE, Stages
from index.building.unreadable import ReportLine, Unreadable, write_report
from index.gallery.catalog import CatalogRow, CatalogWriter
from index.gallery.credits import write_credits
from index.gallery.gallery import VECTORS, Written, gpu_bytes, write_vectors
from index.gallery.manifest import EmbedderReference, GalleryManifest
from index.gallery.store import Store
from index.gallery.thumbnails import THUMBNAILS, write_thumbnails
from index.gallery.tombstones import write_removed
from index.ranking.ranking import Ranking
from index.search.kinds import AUTO, Kind, resolve
from photographs import Photograph, PhotographSet

REPORT = "unreadable.csv"
"""Lists the pictures that a gallery lacks because they cannot be read, and why."""

_MAX_UNREADABLE, _FEW_PICTURES = 0.01, 5
_BLOCK_ROWS = 4096
_WAITING_SHARDS = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuildRecipe:
    """What is asked of a build beside its pictures and its embedder.

    Attributes:
        list_name: Which list of the data folder is the gallery; by default the first of
            :meth:`photographs.PhotographSet.default_list`.
        max_unreadable: The share of pictures that may be unreadable, in [0, 1]. By default
            one in a hundred, or five pictures if that is more.
        batch_pictures: Pictures that the network gets at once.
        readers: Threads that read and decode; 0 for one per core.
        furnishing: How the gallery ranks, and what it holds beside its vectors; by default that
            of the gallery that is rebuilt, or the ranking that the embedder advises.
        kind: As :func:`index.search.kinds.resolve` takes it; by default that of the gallery that is
            taken over from, unless ``auto`` chose it.
        min_recall: The lowest recall@1 that may be published, in [0, 1]; by default any.
        thumbnail_side: Most pixels of a side of the gallery's thumbnails, 0 for none; by default
            as the gallery that is rebuilt.
    """

    list_name: str | None = None
    max_unreadable: float | None = None
    batch_pictures: int = BATCH_PICTURES
    readers: int = 0
    furnishing: Furnishing | None = None
    kind: str | None = None
    min_recall: float | None = None
    thumbnail_side: int | None = None

    def limit(self, total: int) -> float:
        """Return the share of ``total`` pictures that may be unreadable."""
        if self.max_unreadable is not None:
            return self.max_unreadable
        return max(_MAX_UNREADABLE, _FEW_PICTURES / total)


@dataclass(frozen=True, slots=True)
class Run:
    """How vectors are made: by which embedder, run how.

    Attributes:
        reference: What a manifest says of it.
        dimension: Length of a vector.
        ranking: What the embedder advises.
        open: Opens the embedder; asked only where a picture has to be embedded.
    """

    reference: EmbedderReference
    dimension: int
    ranking: Ranking
    open: Callable[[], AbstractContextManager[Embedder]]

    @classmethod
    def of(cls, embedder: Embedder) -> Run:
        """Return the run of an open embedder, which stays open."""
        reference = EmbedderReference(
            name=embedder.manifest.name,
            digest=embedder.digest,
            runtime=embedder.runtime,
            precision=embedder.precision,
        )
        ranking = advised_ranking(embedder.manifest)
        return cls(reference, embedder.dimension, ranking, lambda: nullcontext(embedder))


def build(
    store: Store, embedder: Embedder, data: PhotographSet, recipe: BuildRecipe | None = None
) -> GalleryManifest:
    """Build a gallery and publish it.

    The result does not depend on how often the build was killed before: the same photographs
    and the same embedder make the same files.

    Args:
        store: Where the gallery goes.
        embedder: Makes the vectors.
        data: The photographs.
        recipe: How; the defaults where it is ``None``.

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
        wanted = put_together([open_source(data, recipe.list_name)])
        return write_gallery(store, wanted, reuse_nothing(wanted), Run.of(embedder), recipe)


def write_gallery(
    store: Store,
    wanted: Wanted,
    reuse: Reuse,
    run: Run,
    recipe: BuildRecipe,
    reported: Sequence[ReportLine] = (),
) -> GalleryManifest:
    """Embed what is new, write the gallery and publish it, unless the published one is the same.

    Args:
        store: Where the gallery goes; the caller is its writer.
        wanted: The photographs.
        reuse: Which of them are taken over from the published gallery.
        run: Embeds the others.
        recipe: How.
        reported: Unreadable pictures that are known already, and not among ``wanted``.

    Returns:
        The manifest of the gallery that is now published.
    """
    photographs = [wanted.photographs[place] for place in reuse.new()]
    directory = store.work / _journal_name(wanted, photographs, run, recipe.thumbnail_side or 0)
    journal = Journal(directory, photographs, dimension=run.dimension)
    unreadable = Unreadable(len(wanted), recipe.limit(len(wanted)), directory / REPORT)
    _embed_missing(journal, unreadable, run, recipe, reuse)
    if unreadable.count == len(wanted):
        raise GalleryError(f"none of the pictures can be read; {unreadable.write()} names them")
    pieces = _Pieces(wanted, reuse, journal, run, recipe, [*reported, *unreadable.lines()])
    taken_over = Furnishing.of(reuse.gallery) if reuse.gallery else Furnishing(run.ranking)
    manifest = _publish(store, pieces, recipe.furnishing or taken_over)
    journal.discard()
    return manifest


def _journal_name(
    wanted: Wanted, photographs: Sequence[Photograph], run: Run, thumbnail_side: int
) -> str:
    """Name a journal after all that decides what is in it."""
    folders = [source.reference.data for source in wanted.sources]
    made = [SHARD_PICTURES, run.reference.model_dump(), thumbnail_side]
    facts = [folders, list_digest(photographs), *made]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _embed_missing(
    journal: Journal, unreadable: Unreadable, run: Run, recipe: BuildRecipe, reuse: Reuse
) -> None:
    """Complete the journal, and count the pictures that cannot be read."""
    missing: list[int] = []
    for number in range(len(journal)):
        shard = journal.read_current(number)
        if shard is None:
            missing.append(number)
        else:
            unreadable.add(number, shard)
    total = len(journal.listed)
    left = sum(len(journal.photographs(number)) for number in missing)
    if left < total:
        _log.info(
            "%d of %d pictures were embedded before; going on from there", total - left, total
        )
    if not missing:
        return
    known = known_contents(reuse.gallery) if reuse.gallery else None
    stages = Stages(reader_count(recipe.readers))
    with (
        run.open() as embedder,
        progress_bar(total, done=total - left, what="embed") as bar,
        ThreadPoolExecutor(1, "writer") as writer,
    ):
        waiting: deque[Future[None]] = deque()
        stream = _Embedding(journal, embedder, recipe, known, stages)
        for number, shard in stream.shards(missing):
            waiting.append(writer.submit(_write_shard, journal, number, shard, stages))
            if len(waiting) > _WAITING_SHARDS:
                waiting.popleft().result()
            unreadable.add(number, shard)
            bar.set_postfix_str(str(stages), refresh=False)
            bar.update(len(shard.pictures))
        for written in waiting:
            written.result()
    shares = ", ".join(f"{stage} {share:.0%}" for stage, share in stages.shares().items())
    _log.info("%d pictures embedded; busy: %s; %s", left, shares, stages)


def _write_shard(journal: Journal, number: int, shard: Shard, stages: Stages) -> None:
    with stages.busy(WRITE):
        journal.write(number, shard)


@dataclass(frozen=True, slots=True)
class _Embedding:
    """The shards of a journal as they are embedded."""

    journal: Journal
    embedder: Embedder
    recipe: BuildRecipe
    known: Known | None
    stages: Stages

    def shards(self, numbers: Sequence[int]) -> Iterator[tuple[int, Shard]]:
        """Embed shards one after the other; no batch spans two of them."""
        journal, size = self.journal, self.recipe.batch_pictures
        cuts = {number: range(0, len(journal.photographs(number)), size) for number in numbers}
        stream = embed_files(
            (
                [p.path for p in journal.photographs(number)[start : start + size]]
                for number in numbers
                for start in cuts[number]
            ),
            self.embedder,
            readers=self.recipe.readers,
            known=self.known,
            stages=self.stages,
            thumbnail_side=self.recipe.thumbnail_side or 0,
        )
        for number in numbers:
            batches = [next(stream) for _ in cuts[number]]
            pictures = [picture for batch in batches for picture in batch.pictures]
            vectors = np.concatenate([batch.vectors for batch in batches])
            thumbnails = [thumbnail for batch in batches for thumbnail in batch.thumbnails]
            yield number, Shard(journal.photographs(number), pictures, vectors, thumbnails)


@dataclass(frozen=True, slots=True)
class _Pieces:
    """All that a gallery is put together from."""

    wanted: Wanted
    reuse: Reuse
    journal: Journal
    run: Run
    recipe: BuildRecipe
    unreadable: Sequence[ReportLine]

    def choose(self, rows: int) -> Kind:
        """Choose the kind for so many rows: the one asked for, or that of the published gallery.

        A published gallery of the kind that ``auto`` gave it does not bind: it may have grown.
        """
        free = gpu_bytes(DEVICES[self.run.reference.runtime])
        choose = partial(resolve, dimension=self.run.dimension, gpu_bytes=free)
        asked = self.recipe.kind or AUTO
        if self.recipe.kind is None and self.reuse.gallery is not None:
            asked = asked_kind(self.reuse.gallery.manifest, free)
        return choose(asked, rows)


def asked_kind(manifest: GalleryManifest, gpu_bytes: int) -> str:
    """Return what :func:`index.search.kinds.resolve` was asked for when a gallery was built.

    Args:
        manifest: The gallery's.
        gpu_bytes: Free memory of the GPUs that it was built for; 0 for a CPU.

    Returns:
        ``auto`` where that gives the gallery's kind, whatever was asked for.
    """
    auto = resolve(AUTO, manifest.rows, dimension=manifest.dimension, gpu_bytes=gpu_bytes)
    if manifest.factory == auto.factory:
        return AUTO
    return manifest.factory if manifest.kind == "factory" else manifest.kind


def _publish(store: Store, pieces: _Pieces, furnishing: Furnishing) -> GalleryManifest:
    """Write the gallery, prove it, and publish it if it is new."""
    wanted, published = pieces.wanted, pieces.reuse.gallery
    build_id = store.new_build_id()
    with store.staging(build_id) as staged:
        with CatalogWriter(staged, wanted.names()) as catalog:
            written = _write_rows(staged, pieces, catalog)
        write_credits(staged, [source.credits() for source in wanted.sources])
        _write_thumbnails(staged, pieces)
        write_report(staged / REPORT, pieces.unreadable)
        if wanted.removed:
            write_removed(staged, wanted.removed, [])
        first, *added = (source.reference for source in wanted.sources)
        manifest = GalleryManifest(
            build_id=build_id,
            created=datetime.now(UTC).replace(microsecond=0),
            kind=written.kind.name,
            factory=written.kind.factory,
            rows=written.rows,
            landmarks=catalog.landmark_count,
            dimension=pieces.run.dimension,
            embedder=pieces.run.reference,
            list=first,
            added=tuple(added),
            thumbnail_side=pieces.recipe.thumbnail_side or 0,
            unreadable=len(pieces.unreadable),
            files={path.name: record(path) for path in sorted(staged.iterdir())},
        )
        manifest = furnish(staged, manifest, furnishing)
        if published is not None and says_the_same(manifest, published.manifest):
            _log.info("nothing has changed; %s stays published", published.build_id)
            return published.manifest
        manifest = prove(staged, manifest, min_recall=pieces.recipe.min_recall)
        directory = store.publish(build_id)
    if pieces.unreadable:
        count = len(pieces.unreadable)
        _log.warning("%d pictures cannot be read; %s names them", count, directory / REPORT)
    return manifest


def says_the_same(one: GalleryManifest, other: GalleryManifest) -> bool:
    """Tell whether two galleries are the same but for names, times and what was measured."""
    names = {"build_id", "created", "k_factor", "recall"}
    return one.model_dump(exclude=names) == other.model_dump(exclude=names)


def link(source: Path, target: Path) -> None:
    """Give a file that is never written again a second name, or copy it where that cannot be.

    The two builds then share its bytes on disk: what damages one damages the other, which is
    found in both by their digests.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_rows(staged: Path, pieces: _Pieces, catalog: CatalogWriter) -> Written:
    """Write catalog and vectors; vectors that are all the published ones are linked."""
    blocks, published = _rows(pieces, catalog), pieces.reuse.gallery
    if published is not None and pieces.reuse.is_whole():
        kind = pieces.choose(published.manifest.rows)
        if kind.factory == published.manifest.factory:
            link(published.directory / VECTORS, staged / VECTORS)
            return Written(sum(len(block) for block in blocks), kind)
    return write_vectors(staged / VECTORS, pieces.run.dimension, blocks, pieces.choose)


def _rows(pieces: _Pieces, catalog: CatalogWriter) -> Iterator[NDArray[np.float32]]:
    """Write the usable pictures to the catalog and yield their vectors, block by block.

    Vectors are rounded to what a gallery stores, so that all that is made of them is the same
    whether they come from the network or from an earlier gallery.
    """
    wanted, reuse, fresh = pieces.wanted, pieces.reuse, _fresh(pieces.journal)
    for begin in range(0, len(wanted), _BLOCK_ROWS):
        rows = reuse.rows[begin : begin + _BLOCK_ROWS]
        pictures = list(reuse.pictures[begin : begin + _BLOCK_ROWS])
        vectors = np.zeros((len(rows), pieces.run.dimension), np.float32)
        if reuse.gallery is not None:
            vectors[rows >= 0] = reuse.gallery.vectors(rows[rows >= 0])
        for place in np.flatnonzero(rows < 0):
            pictures[place], vectors[place], _ = next(fresh)
        usable = {place: found for place, found in enumerate(pictures) if found and found.usable}
        catalog.add([_row(wanted, begin + place, found) for place, found in usable.items()])
        yield vectors[list(usable)].astype(np.float16).astype(np.float32)


def _fresh(journal: Journal) -> Iterator[tuple[ReadPicture, NDArray[np.float32], bytes | None]]:
    for number in range(len(journal)):
        shard = journal.read(number)
        yield from zip(shard.pictures, shard.vectors, shard.thumbnails, strict=True)


def _write_thumbnails(staged: Path, pieces: _Pieces) -> None:
    """Write the thumbnails, if they are asked for; where all are the published ones, link them."""
    published = pieces.reuse.gallery
    if not pieces.recipe.thumbnail_side:
        return
    if published is not None and pieces.reuse.is_whole():
        link(published.directory / THUMBNAILS, staged / THUMBNAILS)
    else:
        write_thumbnails(staged, _thumbnails(pieces))


def _thumbnails(pieces: _Pieces) -> Iterator[bytes | None]:
    """Yield the thumbnail of each row, from the published gallery or the journal."""
    fresh, gallery = _fresh(pieces.journal), pieces.reuse.gallery
    held = None if gallery is None else gallery.thumbnails
    for row in pieces.reuse.rows.tolist():
        if row >= 0:
            yield held[row] if held else None
            continue
        picture, _, thumbnail = next(fresh)
        if picture.usable:
            yield thumbnail


def _row(wanted: Wanted, place: int, picture: ReadPicture) -> CatalogRow:
    photograph = wanted.photographs[place]
    return CatalogRow(
        picture_id=photograph.id,
        landmark_id=photograph.landmark_id or "",
        path=wanted.path(place),
        sha256=picture.sha256,
        bytes=picture.bytes,
        mtime_ns=picture.mtime_ns,
        source=wanted.origins[place],
    )
