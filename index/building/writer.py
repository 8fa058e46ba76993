"""Put a gallery together from a row plan and its embeddings, and publish it.

Where most rows of the published gallery stay as they are, all its files are shared and the other
rows become a segment; else the gallery is written whole.
"""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.files import FileRecord, record
from embedder.preprocess import PictureLimits
from embedder.runtimes.devices import DEVICES
from index.building.embedder_choice import LazyEmbedder
from index.building.embeddings import Embeddings
from index.building.extras import Extras, add_extras, write_penalties
from index.building.plan import RowPlan
from index.building.publish import check_every_byte, link, link_files, now, same_content
from index.building.recall import measure_recall, reuses_codes
from index.building.recipe import BuildRecipe
from index.building.segment import SegmentWriter
from index.building.shared_pictures import warn_of_shared_pictures
from index.building.unreadable import REPORT, LeftOut, count_unreadable, write_left_out
from index.gallery.distractors import OWN, PENALTIES
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.manifest import GalleryManifest, Segment, write_manifest
from index.gallery.store import Store
from index.gallery.thumbnails import THUMBNAILS
from index.gallery.tombstones import TOMBSTONES, write_tombstones
from index.search.faiss_search import gpu_bytes
from index.search.kinds import AUTO, Kind, resolve

WHOLE_ROWS = 1000
"""A gallery of fewer rows is written whole, which takes no longer than a segment."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GalleryWriter:
    """Writes and publishes one gallery.

    Attributes:
        plan: Its rows.
        embeddings: Of all photographs that the plan does not take from a gallery, if there are any.
        embedder: Made the vectors.
        recipe: Options of the build.
        unreadable: Report of the pictures that are left out.
    """

    plan: RowPlan
    embeddings: Embeddings | None
    embedder: LazyEmbedder
    recipe: BuildRecipe
    unreadable: Sequence[LeftOut]

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """Which of the photographs of the plan the gallery has."""
        return self._segment.usable()

    @cached_property
    def _segment(self) -> SegmentWriter:
        side = self.recipe.thumbnail_side
        return SegmentWriter(self.plan, self.embeddings, self.embedder.dimension, bool(side))

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """The photographs of the plan that have a row, ascending."""
        return np.flatnonzero(self.kept)

    @property
    def rows(self) -> int:
        """How many rows a search of the gallery can find."""
        return len(self._places)

    def publish(self, store: Store) -> GalleryManifest:
        """Write the gallery, measure its recall and publish it, unless nothing has changed.

        Returns:
            The manifest of the new build, or of the published one if nothing has changed.
        """
        published, manifest = self.plan.gallery, None
        if published is not None and self._most_stays(published):
            manifest = self._publish_segment(store, published)
        if manifest is None:
            manifest = self.publish_whole(store)
        if published is not None and manifest == published.manifest:
            _log.info("nothing has changed; %s stays published", manifest.build_id)
        elif count := count_unreadable(self.unreadable):
            report = store.directory(manifest.build_id) / REPORT
            _log.warning("%d pictures cannot be read; %s lists them", count, report)
        return manifest

    def _most_stays(self, published: Gallery) -> bool:
        """Tell whether the files of the published gallery are shared."""
        manifest, stays = published.manifest, int(np.count_nonzero(self.plan.stays))
        return (
            self.recipe.extras is None
            and manifest.thumbnail_side == (self.recipe.thumbnail_side or 0)
            and self._resolve_kind().factory == manifest.factory
            and self.rows >= WHOLE_ROWS
            and 2 * stays >= max(self.rows, manifest.rows)
            and (self.rows > stays or not self._renamed(published))
        )

    def _publish_segment(self, store: Store, published: Gallery) -> GalleryManifest | None:
        """Publish what has changed as a segment; nothing where the codes do not fit it."""
        before, plan, build_id = published.manifest, self.plan, store.new_build_id()
        places = self._places[~plan.stays[self._places]]
        is_dead = np.ones(before.rows, np.bool_)
        is_dead[plan.rows[plan.stays]] = False
        dead = np.flatnonzero(is_dead)
        number = len(before.segments) + 1
        segment = Segment(folder=f"segments/{number}", rows=len(places)) if len(places) else None
        with store.staging(build_id) as staged:
            files = link_files(published, staged, without=(REPORT, TOMBSTONES))
            if segment is not None:
                files |= self._write_segment(staged / segment.folder, published, places)
            files |= self._write_reports(staged, dead)
            manifest = self._manifest(
                before,
                build_id=build_id,
                rows=before.rows + len(places),
                segments=(*before.segments, segment) if segment else before.segments,
                removed=len(dead),
                files=dict(sorted(files.items())),
            )
            if same_content(manifest, before):
                return before
            with closing(Gallery.of_files(staged, manifest)) as gallery:
                added = np.arange(before.rows, manifest.rows)
                warn_of_shared_pictures(gallery, added)
                if not reuses_codes(gallery, added, min_recall=self.recipe.min_recall):
                    return None
            self._finish(store, staged, manifest)
        if segment and manifest.distractors and manifest.distractors.data == OWN:
            _log.info("the centers of landmarks stay as they are until cairn-index compact")
        return manifest

    def _write_segment(
        self, folder: Path, published: Gallery, places: NDArray[np.int64]
    ) -> dict[str, FileRecord]:
        """Write a segment; return the records of its files by their places in the gallery."""
        folder.mkdir(parents=True)
        files = self._segment.write(
            folder,
            places,
            self._resolve_kind(),
            codes_of=published.directory / VECTORS,
            others=self._renamed(published),
        )
        if published.distractors is not None:
            count = published.manifest.ranking.gallery_distractors
            vectors = published.distractors.vectors
            files[PENALTIES] = write_penalties(folder, vectors, count)
        staged = folder.parent.parent
        return {str((folder / name).relative_to(staged)): one for name, one in files.items()}

    def _renamed(self, published: Gallery) -> list[str]:
        """Return the landmarks whose name or link is another one now."""
        sources, catalog = self.plan.sources, published.catalog
        names, links, shown = sources.names(), sources.links(), set(sources.photographs.landmarks)
        return [
            landmark_id
            for landmark_id, *known in catalog.named_landmarks()
            if landmark_id in shown
            and known != [names.get(landmark_id, landmark_id), links.get(landmark_id)]
        ]

    def publish_whole(self, store: Store) -> GalleryManifest:
        """Write the gallery as one segment and publish it, unless nothing has changed."""
        published, extras = self.plan.gallery, self.recipe.extras
        build_id = store.new_build_id()
        if published is not None and (self.plan.rows >= 0).any():
            check_every_byte(published)
        if extras is None:
            extras = Extras.of(published) if published else Extras(self.embedder.ranking)
        with store.staging(build_id) as staged:
            manifest = self._write_whole(staged, build_id)
            with closing(Gallery.of_files(staged, manifest)) as gallery:
                manifest = add_extras(gallery, extras)
                if published is not None and same_content(manifest, published.manifest):
                    return published.manifest
                warn_of_shared_pictures(gallery, np.flatnonzero((self.plan.rows < 0)[self.kept]))
                measured = measure_recall(gallery, min_recall=self.recipe.min_recall)
            found = {"k_factor": measured.k_factor, "recall": measured.recall}
            manifest = manifest.model_copy(update=found)
            self._finish(store, staged, manifest)
        return manifest

    def _write_whole(self, staged: Path, build_id: str) -> GalleryManifest:
        """Write all files but those of the extras, and describe them."""
        kind = self._resolve_kind()
        files = self._link_rows(staged, kind) if self.plan.is_unchanged() else {}
        files |= self._segment.write(staged, self._places, kind, linked=files)
        files |= self._write_reports(staged, np.empty(0, np.int64))
        return self._manifest(
            None,
            build_id=build_id,
            kind=kind.name,
            factory=kind.factory,
            rows=self.rows,
            dimension=self.embedder.dimension,
            embedder=self.embedder.reference,
            thumbnail_side=self.recipe.thumbnail_side or 0,
            files=dict(sorted(files.items())),
        )

    def _manifest(self, before: GalleryManifest | None, **facts: object) -> GalleryManifest:
        """Describe the gallery, with what stays as it was ``before``."""
        first, *added = (source.reference for source in self.plan.sources.members)
        labels = self.plan.sources.photographs.labels[self._places]
        common = {
            "created": now(),
            "asked_kind": self._asked_kind(),
            "landmarks": len(np.unique(labels)),
            "list": first,
            "added": tuple(added),
            "unreadable": count_unreadable(self.unreadable),
            "limits": self.recipe.pipeline.limits(PictureLimits()),
        }
        return GalleryManifest.model_validate({**dict(before or ()), **common, **facts})

    def _write_reports(self, staged: Path, dead: NDArray[np.int64]) -> dict[str, FileRecord]:
        """Write what is left out, and why."""
        write_left_out(staged / REPORT, self.unreadable)
        files = {REPORT: record(staged / REPORT)}
        tombstones = self.plan.sources.tombstones.with_rows(dead)
        if tombstones or len(dead):
            write_tombstones(staged, tombstones)
            files[TOMBSTONES] = record(staged / TOMBSTONES)
        return files

    def _finish(self, store: Store, staged: Path, manifest: GalleryManifest) -> None:
        write_manifest(staged, manifest)
        Gallery.open_directory(staged, embedder_digest=None).close()
        store.publish(manifest.build_id, no_publish=self.recipe.no_publish)

    def _asked_kind(self) -> str:
        published = self.plan.gallery.manifest.asked_kind if self.plan.gallery else AUTO
        return self.recipe.kind or published

    def _resolve_kind(self) -> Kind:
        embedder = self.embedder
        free = gpu_bytes(DEVICES[embedder.reference.runtime])
        return resolve(self._asked_kind(), self.rows, dimension=embedder.dimension, gpu_bytes=free)

    def _link_rows(self, staged: Path, kind: Kind) -> dict[str, FileRecord]:
        """Link the files of rows that are all as published."""
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
