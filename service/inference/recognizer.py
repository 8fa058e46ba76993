"""From the bytes of a picture to an answer. Knows nothing of HTTP, processes or batches.

The stages are apart: ``prepare`` decodes, ``embed`` runs the network, ``finish_together`` and
``finish_alone`` find in the gallery what is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.arrays import unit_rows
from embedder.embedder import Embedder, Prepared
from embedder.formats.source import Check
from index.gallery.gallery import Gallery
from index.gallery.recognize import Recognition, recognize
from service.contract.schemas import (
    Answer,
    Credit,
    Embedding,
    Neighbor,
    Ready,
    Verification,
)
from service.inference.errors import (
    IdUnknownError,
    NothingToSearchError,
)
from service.inference.tasks import Task

Result = Answer | Verification | Embedding
"""What a recognizer gives for a task."""


def _mean(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the ``(1, d)`` unit row in the direction of the mean of ``(p, d)`` unit rows."""
    return vectors if len(vectors) == 1 else unit_rows(vectors.mean(0)[None])


def run_size(pictures: int) -> int:
    """Return how many of ``pictures``, at least 1, the network of a GPU runs over at once.

    An engine compiles for every batch size that it meets, so few sizes occur.

    >>> [run_size(pictures) for pictures in (1, 3, 4, 7, 8, 100)]
    [1, 3, 4, 4, 8, 64]
    """
    return pictures if pictures < 4 else 1 << (pictures.bit_length() - 1)


class Recognizer:
    """Answers for one embedder and one gallery that belong together.

    Args:
        embedder: The network, loaded.
        gallery: An open gallery, made by ``embedder``.

    Attributes:
        embedder: Turns pictures into embeddings.
        gallery: Holds the embeddings that queries are compared with.
    """

    def __init__(self, embedder: Embedder, gallery: Gallery) -> None:
        self.embedder = embedder
        self.gallery = gallery

    def prepare(self, task: Task, check: Check) -> list[Prepared]:
        """Decode the pictures of a task. Thread-safe.

        Args:
            task: What is asked.
            check: Called between the steps; what it raises ends them.

        Raises:
            PictureError: A picture cannot be used; its ``reason`` says why.
            MemoryError: It does not fit into memory.
        """
        return [self.embedder.prepare(data, check) for data in task.pictures]

    def embed(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        """Run the network over ``n`` pictures; return ``(n, d)`` unit rows.

        One at a time on a CPU: a worker has one thread, which is no faster with more at once, and
        each size that an engine meets costs it memory.
        """
        parts, done = [np.empty((0, self.embedder.dimension), np.float32)], 0
        while done < len(prepared):
            left = len(prepared) - done
            size = run_size(left) if self.embedder.device == "cuda" else 1
            parts.append(self.embedder.embed(prepared[done : done + size]))
            done += size
        return np.concatenate(parts)

    def search(self, vectors: NDArray[np.float32], ks: Sequence[int | None]) -> list[Answer]:
        """Rank the landmarks of the gallery for each query.

        Args:
            vectors: ``(n, d)`` unit rows, n at least 1.
            ks: ``(n,)``, neighbors to return for each; None leaves them out of the answer.

        Returns:
            ``n`` answers, in the same order.
        """
        found = recognize(self.gallery, vectors, max(1, *(k or 0 for k in ks)))
        return [self._describe(answer, k) for answer, k in zip(found, ks, strict=True)]

    def finish_together(self, embedded: Sequence[tuple[Task, NDArray[np.float32]]]) -> list[Answer]:
        """Answer embedded tasks that need no search of their own.

        Args:
            embedded: ``n`` tasks, at least one, each with the ``(p, d)`` unit rows of its pictures.

        Raises:
            ValueError: One of them is not finite.
        """
        vectors = np.concatenate([_mean(rows) for _, rows in embedded])
        return self.search(vectors, [task.options.k for task, _ in embedded])

    def finish_alone(self, task: Task, vectors: NDArray[np.float32]) -> Result:
        """Finish one embedded task that needs a search of its own, or none.

        Args:
            task: What is asked.
            vectors: ``(p, d)`` unit rows of its ``p`` pictures.

        Raises:
            IdUnknownError: The gallery has no landmark or picture of an id of the options.
            NothingToSearchError: The options leave no picture to compare with.
        """
        gallery, row = self.gallery, None
        if task.options.picture is not None:
            row = self._row_of(task.options.picture)
            vectors = unit_rows(gallery.vectors(np.array([row])))
        if task.wants == "vector":
            return self._embedding(_mean(vectors))
        if row is not None or task.options.only:
            gallery = gallery.part(self._codes_of(task.options.only), without=row)
        if not len(gallery):
            raise NothingToSearchError("the gallery has no other picture that may be compared")
        if task.options.together == "mean":
            vectors = _mean(vectors)
        k, landmarks = task.options.k, task.options.landmarks
        [found] = recognize(
            gallery, vectors, max(1, k or 0), landmarks=landmarks or 0, together=True
        )
        if task.wants == "verification":
            return self._verification(found, task.options.only[0])
        return self._describe(found, k, landmarks)

    def _row_of(self, picture: str) -> int:
        row = self.gallery.find_picture(picture)
        if row is None:
            raise IdUnknownError("the gallery has no picture of this id")
        return row

    def _codes_of(self, landmark_ids: Sequence[str]) -> list[int] | None:
        """Return the codes of landmarks; None for all where no id is given."""
        if not landmark_ids:
            return None
        codes = self.gallery.catalog.landmarks_of_ids(landmark_ids)
        for landmark_id in landmark_ids:
            if landmark_id not in codes:
                raise IdUnknownError(f"the gallery has no landmark of the id {landmark_id[:80]!r}")
        return list(codes.values())

    def _embedding(self, vector: NDArray[np.float32]) -> Embedding:
        numbers = tuple(vector[0].tolist())
        return Embedding(vector=numbers, dimension=len(numbers), embedder=self.embedder.digest)

    def _verification(self, found: Recognition, landmark_id: str) -> Verification:
        calibration = self.gallery.manifest.calibration
        return Verification(
            landmark_id=landmark_id,
            name=self.gallery.catalog.name(found.landmark),
            url=self.gallery.catalog.link(found.landmark),
            similarity=float(found.similarities[0]),
            probability=found.probability,
            same=found.known,
            threshold=calibration.threshold if calibration else None,
            gallery=self.gallery.build_id,
            embedder=self.embedder.digest,
        )

    def _describe(self, answer: Recognition, k: int | None, landmarks: int | None = None) -> Answer:
        """Give one query's answer with the ids and names of the catalog."""
        catalog = self.gallery.catalog
        neighbors = best = None
        if k is not None:
            neighbors = self._neighbors(answer.rows[:k], answer.similarities[:k])
        if landmarks is not None:
            best = self._neighbors(answer.landmark_rows, answer.landmark_similarities)
        return Answer(
            landmark_id=catalog.landmark_id(answer.landmark),
            name=catalog.name(answer.landmark),
            url=catalog.link(answer.landmark),
            confidence=answer.confidence,
            probability=answer.probability,
            known=answer.known,
            neighbors=neighbors,
            landmarks=best,
            gallery=self.gallery.build_id,
            embedder=self.embedder.digest,
        )

    def _neighbors(
        self, rows: NDArray[np.int64], similarities: NDArray[np.float32]
    ) -> tuple[Neighbor, ...]:
        catalog = self.gallery.catalog
        codes = catalog.landmarks[rows].tolist()
        return tuple(
            Neighbor(
                landmark_id=catalog.landmark_id(code),
                name=catalog.name(code),
                url=catalog.link(code),
                picture=catalog.picture_id(row),
                similarity=similarity,
                credit=self._credit(row),
            )
            for row, code, similarity in zip(
                rows.tolist(), codes, similarities.tolist(), strict=True
            )
        )

    def _credit(self, row: int) -> Credit | None:
        credit = self.gallery.credits and self.gallery.credits[row]
        return Credit(**credit._asdict()) if credit else None

    def describe(self) -> Ready:
        """Describe the gallery and the embedder that answer."""
        manifest = self.gallery.manifest
        return Ready(
            gallery=manifest.build_id,
            rows=len(self.gallery),
            embedder=self.embedder.digest,
            device=self.embedder.device,
            runtime=self.embedder.runtime,
            precision=self.embedder.precision,
            gallery_precision=manifest.embedder.precision,
        )
