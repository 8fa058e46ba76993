"""Put a gallery together from a row plan and a complete journal, and publish it."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.files import record
from embedder.runtimes.devices import DEVICES
from index.building.embedder_choice import LazyEmbedder
from index.building.extras import Extras, add_extras
from index.building.journal import Journal
from index.building.pipeline import ReadPicture
from index.building.plan import RowPlan
from index.building.publish import link, now, same_content
from index.building.recall import measure_recall
from index.building.recipe import BuildRecipe
from index.building.unreadable import REPORT, ReportLine, write_report
from index.gallery.catalog import CatalogRow, CatalogWriter
from index.gallery.credits import write_credits
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.manifest import GalleryManifest
from index.gallery.store import Store
from index.gallery.thumbnails import THUMBNAILS, write_thumbnails
from index.gallery.tombstones import write_tombstones
from index.search.faiss_search import Written, gpu_bytes, write_vectors
from index.search.kinds import AUTO, Kind, resolve

_BLOCK_ROWS = 4096

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GalleryWriter:
    """Writes and publishes one gallery.

    Attributes:
        plan: Its rows.
        journal: Complete; has the photographs that the plan does not take from a gallery.
        embedder: Made the vectors.
        recipe: Options of the build.
        unreadable: Report of the pictures that are left out.
    """

    plan: RowPlan
    journal: Journal
    embedder: LazyEmbedder
    recipe: BuildRecipe
    unreadable: Sequence[ReportLine]

    def publish(self, store: Store) -> GalleryManifest:
        """Write the gallery, measure its recall and publish it, unless nothing has changed.

        Returns:
            The manifest of the gallery that is now published.
        """
        published = self.plan.gallery
        extras = self.recipe.extras
        if extras is None:
            extras = Extras.of(published) if published else Extras(self.embedder.ranking)
        build_id = store.new_build_id()
        with store.staging(build_id) as staged:
            manifest = add_extras(staged, self._write_files(staged, build_id), extras)
            if published is not None and same_content(manifest, published.manifest):
                _log.info("nothing has changed; %s stays published", published.build_id)
                return published.manifest
            manifest = measure_recall(staged, manifest, min_recall=self.recipe.min_recall)
            Gallery.open_directory(staged, embedder_digest=None).close()
            directory = store.publish(build_id)
        if count := len(self.unreadable):
            _log.warning("%d pictures cannot be read; %s lists them", count, directory / REPORT)
        return manifest

    def _write_files(self, staged: Path, build_id: str) -> GalleryManifest:
        """Write all files but those of the extras, and describe them."""
        sources, published = self.plan.sources, self.plan.gallery
        with CatalogWriter(staged, sources.names(), sources.links()) as catalog:
            written = self._write_rows(staged, catalog)
        write_credits(staged, [source.credits() for source in sources.members])
        if self.recipe.thumbnail_side:
            if published is not None and self.plan.is_unchanged():
                link(published.directory / THUMBNAILS, staged / THUMBNAILS)
            else:
                write_thumbnails(staged, self._thumbnails())
        write_report(staged / REPORT, self.unreadable)
        if sources.tombstones:
            write_tombstones(staged, sources.tombstones.without())
        first, *added = (source.reference for source in sources.members)
        return GalleryManifest(
            build_id=build_id,
            created=now(),
            kind=written.kind.name,
            factory=written.kind.factory,
            asked_kind=self._asked_kind(),
            rows=written.rows,
            landmarks=catalog.landmark_count,
            dimension=self.embedder.dimension,
            embedder=self.embedder.reference,
            list=first,
            added=tuple(added),
            thumbnail_side=self.recipe.thumbnail_side or 0,
            unreadable=len(self.unreadable),
            files={path.name: record(path) for path in sorted(staged.iterdir())},
        )

    def _asked_kind(self) -> str:
        published = self.plan.gallery.manifest.asked_kind if self.plan.gallery else AUTO
        return self.recipe.kind or published

    def _resolve_kind(self, rows: int) -> Kind:
        embedder = self.embedder
        free = gpu_bytes(DEVICES[embedder.reference.runtime])
        return resolve(self._asked_kind(), rows, dimension=embedder.dimension, gpu_bytes=free)

    def _write_rows(self, staged: Path, catalog: CatalogWriter) -> Written:
        """Write catalog and vectors; vectors that are all the published ones are linked."""
        blocks, published = self._blocks(catalog), self.plan.gallery
        if published is not None and self.plan.is_unchanged():
            kind = self._resolve_kind(published.manifest.rows)
            if kind.factory == published.manifest.factory:
                link(published.directory / VECTORS, staged / VECTORS)
                return Written(sum(len(block) for block in blocks), kind)
        dimension = self.embedder.dimension
        return write_vectors(staged / VECTORS, dimension, blocks, self._resolve_kind)

    def _blocks(self, catalog: CatalogWriter) -> Iterator[NDArray[np.float32]]:
        """Write the usable pictures to the catalog and yield their vectors, block by block.

        Vectors are rounded to the fp16 of a gallery, so that what is derived from them is the
        same whether they come from the network or from an earlier gallery.
        """
        plan, embedded = self.plan, self.journal.entries()
        for begin in range(0, len(plan.sources), _BLOCK_ROWS):
            rows = plan.rows[begin : begin + _BLOCK_ROWS]
            pictures = list(plan.pictures[begin : begin + _BLOCK_ROWS])
            vectors = np.zeros((len(rows), self.embedder.dimension), np.float32)
            if plan.gallery is not None:
                vectors[rows >= 0] = plan.gallery.vectors(rows[rows >= 0])
            for place in np.flatnonzero(rows < 0):
                pictures[place], vectors[place], _ = next(embedded)
            usable = {place: p for place, p in enumerate(pictures) if p and p.usable}
            catalog.add([self._catalog_row(begin + place, p) for place, p in usable.items()])
            yield vectors[list(usable)].astype(np.float16).astype(np.float32)

    def _catalog_row(self, place: int, picture: ReadPicture) -> CatalogRow:
        sources = self.plan.sources
        photograph = sources.photographs[place]
        return CatalogRow(
            picture_id=photograph.id,
            landmark_id=photograph.landmark_id or "",
            path=sources.path(place),
            sha256=picture.sha256,
            bytes=picture.bytes,
            mtime_ns=picture.mtime_ns,
            source=int(sources.origins[place]),
        )

    def _thumbnails(self) -> Iterator[bytes | None]:
        embedded = self.journal.entries()
        published = self.plan.gallery.thumbnails if self.plan.gallery else None
        for row in self.plan.rows.tolist():
            if row >= 0:
                yield published[row] if published else None
                continue
            picture, _, thumbnail = next(embedded)
            if picture.usable:
                yield thumbnail
