"""An open gallery: what a reader needs. Its files are mapped and never changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.files import check_files
from embedder.errors import ArtifactMismatchError
from index.gallery.catalog import CATALOG, Catalog
from index.gallery.credits import Credits
from index.gallery.distractors import Distractors
from index.gallery.manifest import GalleryManifest, read_manifest
from index.gallery.store import Store
from index.gallery.thumbnails import Thumbnails
from index.gallery.tombstones import read_tombstones
from index.search.engines import RefinedEngine, SelectedRows
from index.search.faiss_search import limit_threads, open_vectors
from index.search.kinds import FP16_BYTES
from index.search.neighbors import Engine, LiveRows, Neighbors, find_nearest, scan_penalized
from index.search.paging import read_ahead

VECTORS = "vectors.faiss"

_BLOCK_ROWS = 1 << 14
_ALL = 1 << 62  # more bytes than any file has


class Gallery:
    """An open gallery. Thread-safe.

    Attributes:
        directory: Its files.
        manifest: Its manifest.
        catalog: Picture and landmark of each row.
        credits: Author and license of each row; ``None`` where it was built without.
        distractors: Pictures of no landmark, and the penalty of each row; likewise.
        thumbnails: A small picture of each row; likewise.
        tombstones: Dead rows: removed or replaced, so that no search finds them.
        threads: Cores that a search may use; 0 leaves it to FAISS.
    """

    def __init__(
        self, directory: Path, manifest: GalleryManifest, engine: Engine, *, threads: int = 0
    ) -> None:
        rows, dimension = manifest.rows, manifest.dimension
        segments = manifest.folders(directory)
        self.directory = directory
        self.manifest = manifest
        self.catalog = Catalog.open(*segments)
        _compare(directory / VECTORS, f"{rows} x {dimension}", f"{engine.ntotal} x {engine.d}")
        _compare(directory / CATALOG, f"{rows} rows", f"{len(self.catalog)} rows")
        self.distractors = None
        if manifest.distractors:
            self.distractors = Distractors.open(segments, dimension=dimension)
        self.credits = Credits.open(segments)
        self.thumbnails = Thumbnails.open(segments) if manifest.thumbnail_side else None
        self.tombstones = read_tombstones(directory, manifest)
        removed = self.tombstones.rows
        self._removed = frozenset(removed.tolist())
        self._engine: Engine | None = LiveRows(engine, removed) if removed.size else engine
        self._left_out = removed
        self._selected: NDArray[np.int64] | None = None
        self.threads = threads

    @classmethod
    def open(
        cls,
        store: Path,
        *,
        embedder_digest: str | None,
        build: str | None = None,
        threads: int = 0,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> Gallery:
        """Open a build of a store, by default the published one, as :meth:`open_directory` does.

        Raises:
            NoGalleryError: Nothing is published.
        """
        directory = Store(store).directory(build)
        return cls.open_directory(
            directory, embedder_digest=embedder_digest, threads=threads, device=device
        )

    @classmethod
    def open_directory(
        cls,
        directory: Path,
        *,
        embedder_digest: str | None,
        threads: int = 0,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> Gallery:
        """Open the gallery in ``directory``; large files are checked by size only.

        Args:
            directory: The gallery.
            embedder_digest: The embedder of the queries; ``None`` only for a reader that does
                not search.
            threads: Cores that a search may use; 0 leaves it to FAISS.
            device: ``cuda`` copies the vectors to the NVIDIA GPUs and compares all of them
                there, whatever the kind; where they do not fit, the CPU searches.

        Raises:
            ArtifactMissingError: A file does not exist.
            ArtifactDamagedError: A file was altered or truncated.
            ArtifactMismatchError: Another embedder made it, or its files contradict each other.
        """
        manifest = read_manifest(directory)
        if embedder_digest not in (None, manifest.embedder.digest):
            raise ArtifactMismatchError(
                f"embedder of the gallery {directory}",
                expected=str(embedder_digest),
                found=manifest.embedder.digest,
            )
        check_files(directory, manifest.files, deep=False)
        return cls.of_files(directory, manifest, threads=threads, device=device)

    @classmethod
    def of_files(
        cls,
        directory: Path,
        manifest: GalleryManifest,
        *,
        threads: int = 0,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> Gallery:
        """Open files by a manifest that perhaps is not written yet; no digest is compared.

        Arguments and errors are else those of :meth:`open_directory`.
        """
        engine = open_vectors(
            *(folder / VECTORS for folder in manifest.folders(directory)),
            copied_bytes=_copied_bytes(manifest, device),
            k_factor=manifest.k_factor,
            device=device,
        )
        return cls(directory, manifest, engine, threads=threads)

    def part(self, landmarks: Sequence[int] | None = None, *, without: int | None = None) -> Self:
        """Return a gallery of some rows of this one, for a few searches; it shares all files.

        It answers as one that holds nothing else. A part of some landmarks is searched exactly,
        whatever the kind of the gallery.

        Args:
            landmarks: Codes of the landmarks that it has; ``None`` for all.
            without: A row that is left out.

        Returns:
            Perhaps an empty one, which cannot be searched.
        """
        part, whole = copy.copy(self), self._open_engine()
        whole = whole.engine if isinstance(whole, LiveRows) else whole
        left_out = self.tombstones.rows
        if without is not None:
            left_out = np.union1d(left_out, [without])
        if landmarks is None:
            part._left_out, part._engine = left_out, LiveRows(whole, left_out)
        else:
            part._selected = np.setdiff1d(self.catalog.rows_of_landmarks(landmarks), left_out)
            part._engine = SelectedRows(whole, part._selected)
        return part

    def __len__(self) -> int:
        if self._selected is not None:
            return len(self._selected)
        return self.manifest.rows - len(self._left_out)

    @property
    def build_id(self) -> str:
        """The name of this gallery in its store."""
        return self.manifest.build_id

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbors:
        """Find the ``k`` rows nearest to each query, without removed ones.

        Rows are ordered by similarity, ties by landmark id, then picture id.

        Args:
            queries: ``(n, d)`` unit rows, finite.
            k: At least 1; more than there are rows finds all of them.

        Raises:
            ValueError: ``queries`` has another shape or is not finite, ``k`` is below 1,
                or the gallery is closed.
        """
        limit_threads(self.threads)
        return find_nearest(self._open_engine(), queries, k, self.catalog.order)

    def scan(
        self, queries: NDArray[np.float32], k: int, penalties: NDArray[np.float32]
    ) -> Neighbors:
        """Find the ``k`` rows of largest similarity less penalty, by comparing every row.

        Queries and ``k`` are as for :meth:`search`; there is a penalty for each row.
        """
        live = self.catalog.sort(self.live_rows())
        found = scan_penalized(self._blocks(live), queries, min(k, len(self)), penalties[live])
        rows = live[found]
        vectors = self.vectors(rows.reshape(-1)).reshape(*rows.shape, -1)
        # unlike a matrix product, einsum gives equal rows equal similarities
        similarities = np.einsum("nd,nkd->nk", queries, vectors).clip(-1.0, 1.0)
        return Neighbors(rows, similarities)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the stored vectors of ``rows``, ``(n, d)``; of removed ones too.

        Raises:
            ValueError: There is no such row, or the gallery is closed.
        """
        if not rows.size:
            return np.empty((0, self.manifest.dimension), np.float32)
        if not 0 <= rows.min() <= rows.max() < self.manifest.rows:
            raise ValueError(f"the gallery has rows 0 to {self.manifest.rows - 1}")
        return self._open_engine().reconstruct_batch(np.ascontiguousarray(rows, np.int64))

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the stored vectors of all rows, block by block; of removed ones too."""
        return self._blocks(np.arange(self.manifest.rows))

    def _blocks(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(rows), _BLOCK_ROWS):
            yield self.vectors(rows[start : start + _BLOCK_ROWS])

    def live_rows(self) -> NDArray[np.int64]:
        """Return the rows that a search can find, ascending."""
        if self._selected is not None:
            return self._selected
        return np.delete(np.arange(self.manifest.rows), self._left_out)

    def landmarks(self) -> NDArray[np.integer]:
        """Return the codes of the landmarks that a search can find, ascending."""
        if self._selected is None and not self._left_out.size:
            return np.arange(self.catalog.landmark_count)
        return np.flatnonzero(np.bincount(self.catalog.landmarks[self.live_rows()]))

    @property
    def selected(self) -> bool:
        """Whether it is a part of some landmarks."""
        return self._selected is not None

    def rows_of(self, landmark: int) -> NDArray[np.int64]:
        """Return the rows that a search can find of one landmark, ascending."""
        rows, left_out = self.catalog.rows_of_landmarks([landmark]), self._left_out
        if not left_out.size:
            return rows
        live: NDArray[np.int64] = rows[
            left_out.take(np.searchsorted(left_out, rows), mode="clip") != rows
        ]
        return live

    def rows_by_landmark(self) -> dict[int, NDArray[np.int64]]:
        """Return the rows that a search can find of each landmark, by its code."""
        rows = self.live_rows()
        rows = rows[np.argsort(self.catalog.landmarks[rows], kind="stable")]
        codes, first = np.unique(self.catalog.landmarks[rows], return_index=True)
        return dict(zip(codes.tolist(), np.split(rows, first[1:]), strict=True))

    def thumbnail(self, picture_id: str) -> bytes | None:
        """Return a small JPEG of a picture, or ``None``.

        A removed picture has none, although its thumbnail stays in the file until a rebuild.
        """
        if self.thumbnails is None:
            return None
        row = self.find_picture(picture_id)
        return None if row is None else self.thumbnails[row]

    def find_picture(self, picture_id: str) -> int | None:
        """Return the row of a picture, or ``None`` where there is none or it was removed."""
        rows = self.catalog.rows_of_picture(picture_id)
        return next((row for row in rows if row not in self._removed), None)

    def read_ahead(self) -> Iterator[int]:
        """Read the mapped part of the vectors into memory, which else happens page by page.

        The iterator keeps no reference to the gallery. It yields how many bytes were read.
        """
        paths = [folder / VECTORS for folder in self.manifest.folders(self.directory)]
        begun = zip(paths, _copied_bytes(self.manifest, "cpu"), strict=True)
        return chain.from_iterable(read_ahead(path, first, _ALL) for path, first in begun)

    def expect_disk(self, *, expected: bool) -> None:
        """Set whether mapped vectors may still lie on disk; at first they are taken not to.

        While they may, a search prefetches all its candidates at once: faster if they come from
        disk, a little slower if not, with the same result.
        """
        if (engine := self._refined()) is not None:
            engine.prefetches = expected

    def refine(self, candidates: int) -> None:
        """Set how many candidates a search refines at least, instead of what the manifest says."""
        if (engine := self._refined()) is not None:
            engine.k_factor = candidates

    def _refined(self) -> RefinedEngine | None:
        engine = self._open_engine()
        if isinstance(engine, LiveRows):
            engine = engine.engine
        return engine if isinstance(engine, RefinedEngine) else None

    def close(self) -> None:
        """Release the mapped vectors; the gallery cannot be searched afterwards."""
        self._engine = None

    def _open_engine(self) -> Engine:
        if self._engine is None:
            raise ValueError("the gallery is closed")
        return self._engine


def _copied_bytes(manifest: GalleryManifest, device: str) -> list[int]:
    """Return how much of the beginning of each segment's vectors is copied on opening.

    To a GPU all of it; else the codes of a fast scan, which precede the fp16 vectors.
    """
    copied = []
    for folder, rows in manifest.folders(Path()).items():
        size = manifest.files[str(folder / VECTORS)].bytes
        if device != "cuda":
            codes = max(0, size - rows * manifest.dimension * FP16_BYTES)
            size = codes if manifest.kind == "fastscan" else 0
        copied.append(size)
    return copied


def _compare(path: Path, expected: str, found: str) -> None:
    if found != expected:
        raise ArtifactMismatchError(f"rows in {path}", expected=expected, found=found)
