"""From the bytes of a picture to an answer. Knows nothing of HTTP, threads or other pictures.

The stages are apart, so that :mod:`service.inference.batcher` can run each where and when it is
best: ``prepare`` decodes one picture, ``embed`` runs the network over several, ``search`` finds
them in the gallery.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder, Prepared
from index.gallery.gallery import Gallery
from index.gallery.recognize import Recognition, recognize
from service.contract.schemas import Answer, Credit, Landmark, Landmarks, Neighbor, Ready
from service.inference.errors import PictureUnknownError


def run_size(pictures: int) -> int:
    """Return how many of ``pictures``, at least 1, the network runs over at once.

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

    def prepare(self, data: bytes) -> Prepared:
        """Decode one picture. Thread-safe.

        Args:
            data: The file's bytes.

        Raises:
            PictureError: The picture cannot be used; its ``reason`` says why.
        """
        return self.embedder.prepare(data)

    def embed(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        """Run the network over ``n`` pictures; return ``(n, d)`` unit rows."""
        parts, done = [], 0
        while done < len(prepared):
            size = run_size(len(prepared) - done)
            parts.append(self.embedder.embed(prepared[done : done + size]))
            done += size
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

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

    def answer(self, prepared: Sequence[Prepared], ks: Sequence[int | None]) -> list[Answer]:
        """Embed pictures and search for them; see :meth:`search`."""
        return self.search(self.embed(prepared), ks)

    def _describe(self, answer: Recognition, k: int | None) -> Answer:
        """Give one query's answer with the ids and names of the catalog."""
        catalog = self.gallery.catalog
        neighbors = None
        if k is not None:
            rows = answer.rows[:k].tolist()
            landmarks = catalog.landmarks[answer.rows[:k]].tolist()
            neighbors = tuple(
                Neighbor(
                    landmark_id=catalog.landmark_id(landmark),
                    name=catalog.name(landmark),
                    picture=catalog.picture_id(row),
                    similarity=float(similarity),
                    credit=self._credit(row),
                )
                for row, landmark, similarity in zip(
                    rows, landmarks, answer.similarities[:k], strict=True
                )
            )
        return Answer(
            landmark_id=catalog.landmark_id(answer.landmark),
            name=catalog.name(answer.landmark),
            confidence=answer.confidence,
            probability=answer.probability,
            known=answer.known,
            neighbors=neighbors,
            gallery=self.gallery.build_id,
            embedder=self.embedder.digest,
        )

    def _credit(self, row: int) -> Credit | None:
        credit = self.gallery.credits and self.gallery.credits[row]
        return Credit(**credit._asdict()) if credit else None

    def thumbnail(self, picture: str, gallery: str | None) -> bytes:
        """Return a small JPEG of a picture of the gallery. Thread-safe.

        Args:
            picture: Its id.
            gallery: The build that must be serving; None for any.

        Raises:
            PictureUnknownError: There is no such thumbnail, or another build serves.
        """
        if gallery not in (None, self.gallery.build_id):
            raise PictureUnknownError("that gallery is not the one that is served")
        thumbnail = self.gallery.thumbnail(picture)
        if thumbnail is None:
            raise PictureUnknownError("the gallery has no picture of this id to show")
        return thumbnail

    def landmarks(self, offset: int, limit: int) -> Landmarks:
        """List the landmarks of the gallery, at most ``limit`` after the first ``offset``."""
        catalog = self.gallery.catalog
        page = range(catalog.landmark_count)[offset : offset + limit]
        return Landmarks(
            gallery=self.gallery.build_id,
            total=catalog.landmark_count,
            offset=offset,
            landmarks=tuple(
                Landmark(landmark_id=catalog.landmark_id(code), name=catalog.name(code))
                for code in page
            ),
        )

    def describe(self) -> Ready:
        """Describe the gallery and the embedder that answer."""
        manifest = self.gallery.manifest
        return Ready(
            gallery=manifest.build_id,
            rows=manifest.rows,
            embedder=self.embedder.digest,
            device=self.embedder.device,
            runtime=self.embedder.runtime,
            precision=self.embedder.precision,
            gallery_precision=manifest.embedder.precision,
        )
