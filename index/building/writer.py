"""Put a gallery together from a row plan and its embeddings, and publish it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedder.artifacts.files import FileRecord, record
from embedder.preprocess import PictureLimits
from embedder.runtimes.devices import DEVICES
from index.building.embedded import EmbeddedBatch
from index.building.embedder_choice import LazyEmbedder
from index.building.embeddings import Embeddings
from index.building.extras import Extras, add_extras
from index.building.pipeline import BLOCK_PICTURES
from index.building.plan import RowPlan
from index.building.publish import link, now, same_content
from index.building.recall import measure_recall
from index.building.recipe import BuildRecipe
from index.building.shared_pictures import warn_of_shared_pictures
from index.building.unreadable import REPORT, LeftOut, count_unreadable, write_left_out
from index.gallery.catalog import BLOCK, CatalogWriter
from index.gallery.credits import write_credits
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.manifest import GalleryManifest, write_manifest
from index.gallery.store import Store
from index.gallery.thumbnails import THUMBNAILS, ThumbnailWriter
from index.gallery.tombstones import TOMBSTONES, write_tombstones
from index.progress import watch_rows
from index.search.faiss_search import gpu_bytes, write_vectors
from index.search.kinds import AUTO, Kind, resolve

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Block:
    """Some rows of a gallery.

    Attributes:
        taken: ``(t,)`` rows of the published gallery.
        embedded: The others, in order.
        is_new: ``(b,)``, which of the rows are among the others.
    """

    taken: NDArray[np.int64]
    embedded: EmbeddedBatch
    is_new: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class GalleryWriter:
    """Writes and publishes one gallery.

    Attributes:
        plan: Its rows.
        embeddings: Of all photographs that the plan does not take from a gallery.
        embedder: Made the vectors.
        recipe: Options of the build.
        unreadable: Report of the pictures that are left out.
    """

    plan: RowPlan
    embeddings: Embeddings
    embedder: LazyEmbedder
    recipe: BuildRecipe
    unreadable: Sequence[LeftOut]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which of the photographs of the plan the gallery has."""
        kept = self.plan.rows >= 0
        kept[~kept] = self.embeddings.usable
        return kept

    @property
    def rows(self) -> int:
        """How many rows the gallery has."""
        return int(np.count_nonzero(self.kept))

    def publish(self, store: Store) -> GalleryManifest:
        """Write the gallery, measure its recall and publish it, unless nothing has changed.

        Returns:
            The manifest of the new build, or of the published one if nothing has changed.
        """
        published = self.plan.gallery
        extras = self.recipe.extras
        if extras is None:
            extras = Extras.of(published) if published else Extras(self.embedder.ranking)
        build_id = store.new_build_id()
        with store.staging(build_id) as staged:
            manifest = self._write_files(staged, build_id)
            with closing(Gallery.of_files(staged, manifest)) as gallery:
                manifest = add_extras(gallery, extras)
                if published is not None and same_content(manifest, published.manifest):
                    _log.info("nothing has changed; %s stays published", published.build_id)
                    return published.manifest
                warn_of_shared_pictures(gallery, np.flatnonzero((self.plan.rows < 0)[self.kept]))
                measured = measure_recall(gallery, min_recall=self.recipe.min_recall)
            found = {"k_factor": measured.k_factor, "recall": measured.recall}
            manifest = manifest.model_copy(update=found)
            write_manifest(staged, manifest)
            Gallery.open_directory(staged, embedder_digest=None).close()
            directory = store.publish(build_id, no_publish=self.recipe.no_publish)
        if count := count_unreadable(self.unreadable):
            _log.warning("%d pictures cannot be read; %s lists them", count, directory / REPORT)
        return manifest

    def _write_files(self, staged: Path, build_id: str) -> GalleryManifest:
        """Write all files but those of the extras, and describe them."""
        sources, kind = self.plan.sources, self._resolve_kind()
        with CatalogWriter(staged, sources.names(), sources.links()) as catalog:
            files = self._write_rows(staged, catalog, kind)
        files |= catalog.records
        files |= write_credits(staged, [source.credits() for source in sources.members])
        write_left_out(staged / REPORT, self.unreadable)
        files[REPORT] = record(staged / REPORT)
        if sources.tombstones:
            write_tombstones(staged, sources.tombstones.without_rows())
            files[TOMBSTONES] = record(staged / TOMBSTONES)
        first, *added = (source.reference for source in sources.members)
        return GalleryManifest(
            build_id=build_id,
            created=now(),
            kind=kind.name,
            factory=kind.factory,
            asked_kind=self._asked_kind(),
            rows=self.rows,
            landmarks=catalog.landmark_count,
            dimension=self.embedder.dimension,
            embedder=self.embedder.reference,
            list=first,
            added=tuple(added),
            thumbnail_side=self.recipe.thumbnail_side or 0,
            unreadable=count_unreadable(self.unreadable),
            limits=self.recipe.pipeline.limits(PictureLimits()),
            files=dict(sorted(files.items())),
        )

    def _asked_kind(self) -> str:
        published = self.plan.gallery.manifest.asked_kind if self.plan.gallery else AUTO
        return self.recipe.kind or published

    def _resolve_kind(self) -> Kind:
        embedder = self.embedder
        free = gpu_bytes(DEVICES[embedder.reference.runtime])
        return resolve(self._asked_kind(), self.rows, dimension=embedder.dimension, gpu_bytes=free)

    def _write_rows(
        self, staged: Path, catalog: CatalogWriter, kind: Kind
    ) -> dict[str, FileRecord]:
        """Write catalog, vectors and thumbnails; what is all as published is linked."""
        files: dict[str, FileRecord] = {}
        if self.plan.is_unchanged():
            files = self._link_rows(staged, kind)
        with ExitStack() as stack:
            thumbnails = None
            if self.recipe.thumbnail_side and THUMBNAILS not in files:
                thumbnails = stack.enter_context(ThumbnailWriter(staged))
            blocks = self._blocks(catalog, thumbnails)
            vectors = (self._vectors(block) for block in blocks)
            if VECTORS in files:
                for _ in blocks:
                    pass
            else:
                files[VECTORS] = write_vectors(
                    staged / VECTORS,
                    watch_rows(vectors, self.rows, "write rows"),
                    rows=self.rows,
                    dimension=self.embedder.dimension,
                    kind=kind,
                )
        return files if thumbnails is None else {**files, THUMBNAILS: thumbnails.record()}

    def _link_rows(self, staged: Path, kind: Kind) -> dict[str, FileRecord]:
        published, names = self.plan.gallery, []
        if published is None:
            return {}
        if kind.factory == published.manifest.factory:
            names.append(VECTORS)
        if self.recipe.thumbnail_side:
            names.append(THUMBNAILS)
        for name in names:
            link(published.directory / name, staged / name)
        return {name: published.manifest.files[name] for name in names}

    def _blocks(
        self, catalog: CatalogWriter, thumbnails: ThumbnailWriter | None
    ) -> Iterator[_Block]:
        """Write catalog and thumbnails of the usable pictures, and yield them block by block."""
        rows, begin_new = self.plan.rows, 0
        landmarks = pa.array(self.plan.sources.photographs.landmarks, pa.string())
        for begin in range(0, len(rows), BLOCK_PICTURES):
            own = rows[begin : begin + BLOCK_PICTURES]
            is_new = own < 0
            new = slice(begin_new, begin_new + int(np.count_nonzero(is_new)))
            begin_new = new.stop
            kept = ~is_new
            kept[is_new] = self.embeddings.usable[new]
            block = _Block(own[~is_new], self.embeddings.read(new), is_new[kept])
            catalog.add_block(self._describe(begin + np.flatnonzero(kept), block, landmarks))
            if thumbnails is not None:
                thumbnails.add(self._thumbnails(block))
            yield block

    def _describe(
        self, places: NDArray[np.int64], block: _Block, landmarks: pa.StringArray
    ) -> pa.RecordBatch:
        """Return the catalog's block of photographs; ``landmarks`` are the ids of their labels."""
        sources, gallery = self.plan.sources, self.plan.gallery
        photographs, origins = sources.photographs.take(places), sources.origins[places]
        contents = np.empty(len(places), object)
        sizes, times = np.empty(len(places), np.int64), self.plan.times[places]
        pictures = block.embedded.pictures
        contents[block.is_new] = [picture.sha256 for picture in pictures]
        sizes[block.is_new] = [picture.bytes for picture in pictures]
        times[block.is_new] = [picture.mtime_ns for picture in pictures]
        if gallery is not None:
            column = gallery.catalog.column("sha256").take(block.taken)
            contents[~block.is_new] = column.to_pylist()
            sizes[~block.is_new] = gallery.catalog.column("bytes").take(block.taken).to_numpy()
        columns = {
            "picture_id": photographs.ids,
            "landmark_id": landmarks.take(photographs.labels),
            "path": _relative(photographs.paths(), origins, [m.root for m in sources.members]),
            "sha256": pa.array(contents.tolist(), pa.binary(32)),
            "bytes": sizes,
            "mtime_ns": times,
            "source": origins.astype(np.int16),
        }
        return pa.record_batch(columns, schema=BLOCK)

    def _vectors(self, block: _Block) -> NDArray[np.float32]:
        """Return the vectors of a block, rounded to the fp16 of a gallery.

        What is derived from them is then the same whether they come from the network or from an
        earlier gallery.
        """
        vectors = np.empty((len(block.is_new), self.embedder.dimension), np.float32)
        vectors[block.is_new] = block.embedded.vectors
        if self.plan.gallery is not None:
            vectors[~block.is_new] = self.plan.gallery.vectors(block.taken)
        return vectors.astype(np.float16).astype(np.float32)

    def _thumbnails(self, block: _Block) -> Iterator[bytes | None]:
        published = self.plan.gallery.thumbnails if self.plan.gallery else None
        taken, made = iter(block.taken.tolist()), iter(block.embedded.thumbnails)
        for is_new in block.is_new.tolist():
            if is_new:
                yield next(made)
            else:
                row = next(taken)
                yield published[row] if published else None


def _relative(
    paths: pa.StringArray, origins: NDArray[np.int32], roots: Sequence[Path]
) -> pa.StringArray:
    """Make paths relative to the folders of their sources, where they lie below them."""
    for origin in np.unique(origins).tolist():
        prefix = f"{roots[origin]}/"
        below = pc.and_(pc.starts_with(paths, prefix), pa.array(origins == origin))
        shorter = pc.utf8_slice_codeunits(paths, len(prefix))
        paths = pc.if_else(below, shorter, paths)
    return paths
