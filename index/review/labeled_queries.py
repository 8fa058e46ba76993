"""Labeled queries that several builds are asked, each with the embedder that made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from embedder.embedder import Embedder
from embedder.errors import ArtifactMismatchError, CatalogError
from embedder.manifest import read_manifest
from index.building.embedder_choice import EmbedderChoice
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions
from index.evaluation.evaluate import Evaluation, evaluate
from index.evaluation.queries import AnsweredQueries
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from photographs import PhotographSet

CURRENT = "CURRENT"
"""In place of the id of a build: the published one."""


@dataclass(frozen=True, slots=True)
class LabeledQueries:
    """Labeled queries, and the embedders of the builds that they are asked of.

    Attributes:
        data: Holds the queries.
        embedders: In any order; a build takes the one with the digest in its manifest.
        options: Batch size and threads.
    """

    data: PhotographSet
    embedders: Sequence[EmbedderChoice]
    options: PipelineOptions = DEFAULT_OPTIONS

    def ask(self, store: Store, build_id: str) -> tuple[Evaluation, AnsweredQueries]:
        """Evaluate a build, as :func:`index.evaluation.evaluate.evaluate` does.

        Raises:
            ArtifactMismatchError: None of the embedders made the build.
            ArtifactError: The build, or its embedder, cannot be trusted.
            CatalogError: There are no labeled queries, or their list is faulty.
        """
        with self._open(store, build_id) as (gallery, embedder):
            return evaluate(gallery, embedder, self.data, self.options)

    def gap(self, store: Store, build_id: str) -> float:
        """Return the GAP of a build; raises as :meth:`ask`.

        Raises:
            CatalogError: No query shows a landmark.
        """
        evaluation, _ = self.ask(store, build_id)
        if evaluation.gap is None:
            reason = "none of its queries shows a landmark, so there is no GAP"
            raise CatalogError(self.data.directory, reason)
        return evaluation.gap

    @contextmanager
    def _open(self, store: Store, build_id: str) -> Iterator[tuple[Gallery, Embedder]]:
        with closing(Gallery.open(store.path, embedder_digest=None, build=build_id)) as gallery:
            made = gallery.manifest.embedder
        digests = [read_manifest(choice.directory)[1] for choice in self.embedders]
        if made.digest not in digests:
            raise ArtifactMismatchError(
                f"embedder of the build {build_id}, {made.name}",
                expected=made.digest,
                found=", ".join(digests) or "none",
            )
        with (
            closing(self.embedders[digests.index(made.digest)].open()) as embedder,
            closing(
                Gallery.open(
                    store.path,
                    embedder_digest=embedder.digest,
                    build=build_id,
                    threads=self.options.readers,
                    device=embedder.device,
                )
            ) as gallery,
        ):
            yield gallery, embedder
