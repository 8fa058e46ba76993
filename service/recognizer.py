"""From the bytes of a picture to an answer. Knows nothing of HTTP.

A picture passes two stages. Decoding happens in a small pool of threads, several pictures at a
time. The network and the search happen in one thread of their own, since each of them uses all
cores for one batch; that stage takes a list of pictures and gives a list of answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder, Prepared
from index.gallery import Gallery
from index.ranking import top1
from service.schemas import Answer, Neighbor, Ready


class Recognizer:
    """Answers for one embedder and one gallery that belong together.

    Args:
        embedder: Open; whoever opened it closes it, after this.
        gallery: Open, made by ``embedder``; closed likewise.
        decoders: Pictures decoded at the same time, at least 1.
    """

    def __init__(self, embedder: Embedder, gallery: Gallery, *, decoders: int) -> None:
        self._embedder = embedder
        self._gallery = gallery
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")
        self._answerer = ThreadPoolExecutor(1, thread_name_prefix="answer")

    async def recognize(self, data: bytes, k: int | None = None) -> Answer:
        """Say which landmark a picture shows.

        Args:
            data: The file's bytes.
            k: Neighbors to tell of, at least 0; None leaves them out of the answer.

        Raises:
            PictureError: The picture cannot be used; its ``reason`` says why.
        """
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(self._decoders, self._embedder.prepare, data)
        answers = await loop.run_in_executor(self._answerer, self.answer, [prepared], [k])
        return answers[0]

    def answer(self, prepared: Sequence[Prepared], ks: Sequence[int | None]) -> list[Answer]:
        """Embed a batch and look it up.

        Args:
            prepared: ``n`` pictures, ready for the network; at least one.
            ks: ``n``, neighbors to tell of for each, as for :meth:`recognize`.

        Returns:
            ``n`` answers, in the same order.
        """
        vectors = self._embedder.embed(prepared)
        found = self._gallery.search(vectors, max(1, *(k or 0 for k in ks)))
        triples = zip(found.rows, found.similarities, ks, strict=True)
        return [self._word(rows, similarities, k) for rows, similarities, k in triples]

    def _word(
        self, rows: NDArray[np.int64], similarities: NDArray[np.float32], k: int | None
    ) -> Answer:
        """Put one query's neighbors, nearest first, into the words of the catalog."""
        catalog = self._gallery.catalog
        landmarks = catalog.landmarks[rows]
        best = top1(landmarks, similarities)
        neighbors = None
        if k is not None:
            told = zip(rows[:k].tolist(), landmarks[:k].tolist(), similarities[:k], strict=True)
            neighbors = tuple(
                Neighbor(
                    landmark_id=catalog.landmark_id(landmark),
                    picture=catalog.picture_id(row),
                    similarity=float(similarity),
                )
                for row, landmark, similarity in told
            )
        return Answer(
            landmark_id=catalog.landmark_id(best.landmark),
            name=catalog.name(best.landmark),
            confidence=best.score,
            neighbors=neighbors,
            gallery=self._gallery.build_id,
            embedder=self._embedder.digest,
        )

    def describe(self) -> Ready:
        """Say what answers."""
        manifest = self._gallery.manifest
        return Ready(
            gallery=manifest.build_id,
            rows=manifest.rows,
            embedder=self._embedder.digest,
            device=self._embedder.device,
            runtime=self._embedder.runtime,
            precision=self._embedder.precision,
            gallery_precision=manifest.embedder.precision,
        )

    def close(self) -> None:
        """Finish what is begun, then end the threads."""
        self._decoders.shutdown()
        self._answerer.shutdown()
