"""Write the files of one segment of a gallery from a row plan and its embeddings."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedder.artifacts.files import FileRecord
from index.building.embedded import EmbeddedBatch
from index.building.embeddings import Embeddings
from index.building.pipeline import BLOCK_PICTURES
from index.building.plan import RowPlan, relative_paths
from index.gallery.catalog import BLOCK, CatalogWriter
from index.gallery.credits import write_credits
from index.gallery.gallery import VECTORS
from index.gallery.thumbnails import THUMBNAILS, ThumbnailWriter
from index.progress import watch_rows
from index.search.faiss_search import write_vectors
from index.search.kinds import Kind


@dataclass(frozen=True, slots=True)
class _Block:
    """Some rows of a segment.

    Attributes:
        taken: ``(t,)`` rows of the published gallery.
        embedded: The others, in order.
        is_new: ``(b,)``, which of the rows are among the others.
    """

    taken: NDArray[np.int64]
    embedded: EmbeddedBatch
    is_new: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SegmentWriter:
    """Writes segments.

    Attributes:
        plan: Where each row comes from.
        embeddings: Of all photographs that the plan does not take from a gallery, if there are any.
        dimension: Length of a vector.
        has_thumbnails: Whether a segment has thumbnails.
    """

    plan: RowPlan
    embeddings: Embeddings | None
    dimension: int
    has_thumbnails: bool

    def usable(self) -> NDArray[np.bool_]:
        """Tell of each photograph of the plan, ``(n,)``, whether it can have a row."""
        usable: NDArray[np.bool_] = self.plan.rows >= 0
        if self.embeddings is not None:
            usable[~usable] = self.embeddings.usable
        return usable

    def write(
        self,
        folder: Path,
        places: NDArray[np.int64],
        kind: Kind,
        *,
        codes_of: Path | None = None,
        others: Collection[str] = (),
        linked: Collection[str] = (),
    ) -> dict[str, FileRecord]:
        """Write a segment.

        Args:
            folder: Where its files are written.
            places: ``(m,)`` ascending, the photographs of the plan that it has.
            kind: Of its vectors.
            codes_of: A file of vectors whose codes are used; by default they are trained anew.
            others: Further landmarks that are named.
            linked: Names of files that are there already.

        Returns:
            The record of each new file, by name.
        """
        sources, files = self.plan.sources, dict[str, FileRecord]()
        with CatalogWriter(folder, sources.names(), sources.links(), others) as catalog:
            with ExitStack() as stack:
                thumbnails = None
                if self.has_thumbnails and THUMBNAILS not in linked:
                    thumbnails = stack.enter_context(ThumbnailWriter(folder))
                blocks = self._blocks(places, catalog, thumbnails)
                vectors = (self._vectors(block) for block in blocks)
                if VECTORS in linked:
                    for _ in blocks:
                        pass
                else:
                    files[VECTORS] = write_vectors(
                        folder / VECTORS,
                        watch_rows(vectors, len(places), "write rows"),
                        rows=len(places),
                        dimension=self.dimension,
                        kind=kind,
                        codes_of=codes_of,
                    )
            if thumbnails is not None:
                files[THUMBNAILS] = thumbnails.record()
        told = sources.credits(sources.origins[places])
        return files | catalog.records | write_credits(folder, told)

    def _blocks(
        self, places: NDArray[np.int64], catalog: CatalogWriter, thumbnails: ThumbnailWriter | None
    ) -> Iterator[_Block]:
        """Write catalog and thumbnails, and yield the rows block by block."""
        rows = self.plan.rows
        numbers = np.cumsum(rows < 0)  # of each photograph in the embeddings, from 1
        landmarks = pa.array(self.plan.sources.photographs.landmarks, pa.string())
        end = 0
        for begin in range(0, len(places), BLOCK_PICTURES):
            own = places[begin : begin + BLOCK_PICTURES]
            is_new = rows[own] < 0
            new = slice(0, 0)
            if is_new.any():
                new = slice(end, int(numbers[own[is_new][-1]]))
                end = new.stop
            block = _Block(rows[own[~is_new]], self._read(new), is_new)
            catalog.add_block(self._describe(own, block, landmarks))
            if thumbnails is not None:
                thumbnails.add(self._thumbnails(block))
            yield block

    def _read(self, new: slice) -> EmbeddedBatch:
        if self.embeddings is None:
            return EmbeddedBatch([], np.empty((0, self.dimension), np.float32), [])
        return self.embeddings.read(new)

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
            "path": relative_paths(photographs.paths(), origins, sources),
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
        vectors = np.empty((len(block.is_new), self.dimension), np.float32)
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
