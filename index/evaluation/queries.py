"""Queries of a gallery: embed them, answer them, and find those that the gallery contains.

The ranking is the served one, :mod:`index.gallery.recognize`. What is kept of a hundred thousand
queries are columns, not an object of each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from embedder.text import SOME, name_some
from index.building.embedded import EmbeddedBatch
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions
from index.building.query_vectors import embed_paths
from index.building.unreadable import ReportLine
from index.gallery.gallery import Gallery
from index.gallery.recognize import (
    Recognition,
    recognize_by_each,
    recognize_measured,
)
from index.progress import watch_rows
from index.ranking.ranking import Ranking
from index.ranking.signals import SIGNALS
from photographs import Photograph, Query, QueryList

NEAR_DUPLICATE_COSINE = 0.99
"""A query this near to a picture of the gallery is probably that picture, encoded again."""

_BLOCK_QUERIES = 256
_DIGEST_BYTES = 32

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedQueries:
    """The readable ones of some queries.

    Attributes:
        places: ``(n,)`` int64, their places among all queries, ascending.
        vectors: ``(n, d)`` unit rows.
        contents: ``(n, 32)`` uint8, the SHA-256 of their files.
        embedded: How many of them the network has just embedded; the others were known.
    """

    places: NDArray[np.int64]
    vectors: NDArray[np.float32]
    contents: NDArray[np.uint8]
    embedded: int

    @classmethod
    def join(cls, batches: Iterator[EmbeddedBatch]) -> EmbeddedQueries:
        """Keep what is readable of batches, at least one."""
        places, vectors, contents = list[NDArray[np.int64]](), [], bytearray()
        begin = embedded = 0
        for batch in batches:
            usable = batch.usable()
            places.append(begin + np.array(usable, np.int64))
            vectors.append(batch.vectors[usable])
            contents += b"".join(batch.pictures[place].sha256 for place in usable)
            begin += len(batch.pictures)
            embedded += batch.embedded
        digests = np.frombuffer(contents, np.uint8).reshape(-1, _DIGEST_BYTES)
        return cls(np.concatenate(places), np.concatenate(vectors), digests, embedded)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The answers of a gallery to ``n`` queries.

    Attributes:
        landmarks: ``(n,)`` int32 codes.
        confidences: ``(n,)`` float64.
        probabilities: ``(n,)`` float64 of the landmarks being right; NaN without a calibration.
        scores: ``(n,)`` float64, what orders the answers of different queries: see
            :class:`index.gallery.recognize.Recognition`.
        accepted: ``(n,)``, whether an answer is not below the threshold; all without a
            calibration.
        rows: ``(n, k)`` int64, gallery rows, nearest first by the ranking.
        similarities: ``(n, k)`` float32, their cosines, without penalties.
    """

    landmarks: NDArray[np.int32]
    confidences: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    scores: NDArray[np.float64]
    accepted: NDArray[np.bool_]
    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]

    @classmethod
    def empty(cls, n: int, k: int) -> Answers:
        """Make room for ``n`` answers with ``k`` neighbors."""
        confidences, probabilities, scores = np.empty((3, n), np.float64)
        rows, similarities = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
        landmarks, accepted = np.empty(n, np.int32), np.empty(n, np.bool_)
        return cls(landmarks, confidences, probabilities, scores, accepted, rows, similarities)

    def take(self, places: NDArray[np.integer]) -> Answers:
        """Return some of the answers, in the order of ``places``."""
        return Answers(*(getattr(self, column.name)[places] for column in fields(self)))

    def put(self, begin: int, answers: Sequence[Recognition]) -> None:
        """Take answers, from the place ``begin`` on."""
        k = self.rows.shape[1]
        for place, answer in enumerate(answers, begin):
            self.landmarks[place], self.confidences[place] = answer.landmark, answer.confidence
            self.probabilities[place] = answer.probability  # None is NaN
            self.scores[place] = answer.score
            self.accepted[place] = answer.known is not False
            self.rows[place], self.similarities[place] = answer.rows[:k], answer.similarities[:k]


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredPictures:
    """Pictures and the answers of a gallery's own ranking.

    Attributes:
        answers: To all ``n`` pictures; without meaning for an unreadable one.
        readable: ``(n,)``, which of them can be read.
        unreadable: Report of the others.
        embedded: How many the network has just embedded; the vectors of others were kept.
    """

    answers: Answers
    readable: NDArray[np.bool_]
    unreadable: Sequence[ReportLine]
    embedded: int


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredQueries:
    """Readable queries and the answers of a gallery.

    Attributes:
        queries: ``n`` queries.
        vectors: ``(n, d)`` unit rows.
        answers: By the gallery's own ranking, with :data:`index.evaluation.metrics.DEPTH`
            neighbors.
    """

    queries: QueryList
    vectors: NDArray[np.float32]
    answers: Answers

    def take(self, places: NDArray[np.int64]) -> AnsweredQueries:
        """Return some of the queries, in the order of ``places``."""
        queries, answers = self.queries.take(places), self.answers.take(places)
        return AnsweredQueries(queries, self.vectors[places], answers)


def embed_queries(
    gallery: Gallery,
    embedder: Embedder,
    queries: Sequence[Photograph] | Sequence[Query],
    options: PipelineOptions = DEFAULT_OPTIONS,
) -> Iterator[EmbeddedBatch]:
    """Embed queries block by block, in order, with a progress bar on stderr.

    A warning is logged if the gallery was embedded by another runtime or in another precision.
    """
    made, ran = gallery.manifest.embedder, (embedder.runtime, embedder.precision)
    if (made.runtime, made.precision) != ran:
        words = "the gallery was embedded with %s in %s, the queries with %s in %s"
        _log.warning(words, made.runtime, made.precision, *ran)
    options = options.within(gallery.manifest.limits)
    return embed_paths(_Paths(queries), embedder, "embed queries", options)


class _Paths(Sequence[Path]):
    """The files of queries, a block of them at a time."""

    def __init__(self, queries: Sequence[Photograph] | Sequence[Query]) -> None:
        self._queries = queries

    def __len__(self) -> int:
        return len(self._queries)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> list[Path]: ...
    def __getitem__(self, place: int | slice) -> Path | list[Path]:
        if isinstance(place, slice):
            return [query.path for query in self._queries[place]]
        return self._queries[place].path


def answer_pictures(
    gallery: Gallery,
    embedder: Embedder,
    pictures: Sequence[Photograph],
    answer: Callable[[NDArray[np.float32]], Sequence[Recognition]],
    options: PipelineOptions = DEFAULT_OPTIONS,
    k: int = 1,
) -> AnsweredPictures:
    """Embed pictures and answer each with ``k`` neighbors, block by block; no vector is kept.

    ``answer`` answers a block of ``(m, d)`` unit rows.
    """
    n = len(pictures)
    answers, readable = Answers.empty(n, min(k, len(gallery))), np.zeros(n, np.bool_)
    unreadable, begin, embedded = list[ReportLine](), 0, 0
    for batch in embed_queries(gallery, embedder, pictures, options):
        for place, read in enumerate(batch.pictures, begin):
            readable[place] = read.usable
            if not read.usable:
                one = pictures[place]
                unreadable.append(ReportLine(one.id, str(one.path), read.fault))
        for first in range(0, len(batch.pictures), _BLOCK_QUERIES):
            block = batch.vectors[first : first + _BLOCK_QUERIES]
            answers.put(begin + first, answer(block))
        begin += len(batch.pictures)
        embedded += batch.embedded
    return AnsweredPictures(answers, readable, unreadable, embedded)


def answer_by_each(
    gallery: Gallery, rankings: Sequence[Ranking], vectors: NDArray[np.float32], k: int = 1
) -> list[Answers]:
    """Answer ``(n, d)`` queries by the gallery's own rule and by each of several rankings.

    Blocks of queries are searched one after the other, which bounds the memory for neighbors,
    with a progress bar on stderr.

    Returns:
        The answers by the own rule, with ``k`` neighbors, or all where there are fewer; then those
        by each ranking, without neighbors.
    """
    widths = [min(k, len(gallery)), *[0] * len(rankings)]
    answers = [Answers.empty(len(vectors), width) for width in widths]
    for begin, block in _blocks(vectors):
        found = recognize_by_each(gallery, rankings, block, k)
        for columns, own in zip(answers, found, strict=True):
            columns.put(begin, own)
    return answers


def measure_answers(
    gallery: Gallery, ranking: Ranking, vectors: NDArray[np.float32]
) -> tuple[Answers, NDArray[np.float64]]:
    """Answer ``(n, d)`` queries by a ranking, and measure the signals of the answers.

    Returns:
        The answers, without neighbors, and the signals: see
        :func:`index.gallery.recognize.recognize_measured`.
    """
    answers, signals = Answers.empty(len(vectors), 0), np.empty((len(vectors), len(SIGNALS)))
    for begin, block in _blocks(vectors):
        found, signals[begin : begin + len(block)] = recognize_measured(ranking, gallery, block)
        answers.put(begin, found)
    return answers, signals


def _blocks(vectors: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield blocks of queries, each with the place of its first, with a progress bar."""
    starts = range(0, len(vectors), _BLOCK_QUERIES)
    blocks = (vectors[begin : begin + _BLOCK_QUERIES] for begin in starts)
    return zip(starts, watch_rows(blocks, len(vectors), "answer"), strict=True)


def count_duplicates(
    gallery: Gallery, answered: AnsweredQueries, contents: NDArray[np.uint8]
) -> tuple[int, int]:
    """Count the queries that are in the gallery, and name some of them in the log.

    Args:
        gallery: The gallery.
        answered: ``n`` queries and its answers.
        contents: ``(n, 32)``, SHA-256 of their files.

    Returns:
        How many are byte for byte a file of the gallery, and how many others have a cosine of
        at least :data:`NEAR_DUPLICATE_COSINE` to one of its pictures.
    """
    rows, answers = rows_with_content(gallery, contents), answered.answers
    queries, catalog = answered.queries, gallery.catalog
    same = np.flatnonzero(rows >= 0)
    near = np.flatnonzero((rows < 0) & (answers.similarities.max(axis=1) >= NEAR_DUPLICATE_COSINE))
    if len(same):
        pairs = ((queries[place].id, catalog.picture_id(rows[place])) for place in same[:SOME])
        _warn_of([f"{query} is the same file as {picture}" for query, picture in pairs], len(same))
    if len(near):
        nearest = answers.rows[near, answers.similarities[near].argmax(axis=1)]
        pairs = (
            (queries[place].id, catalog.picture_id(row))
            for place, row in zip(near[:SOME], nearest.tolist(), strict=False)
        )
        _warn_of([f"{query} is very near to {picture}" for query, picture in pairs], len(near))
    return len(same), len(near)


def _warn_of(duplicates: Sequence[str], count: int) -> None:
    named = name_some(duplicates, count)
    _log.warning("%d queries seem to be in the gallery: %s", count, named)


def rows_with_content(gallery: Gallery, contents: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Find a row of the same content for each of some files, ``(n,)``; -1 where there is none.

    Args:
        gallery: The gallery; removed rows are passed over.
        contents: ``(n, 32)``, SHA-256 of the files.
    """
    catalog, digests = gallery.catalog, [content.tobytes() for content in contents]
    found = catalog.rows_of_content(set(digests))
    found = found[np.isin(found, gallery.live_rows(), assume_unique=True)]
    row_of = {catalog.row(row).sha256: row for row in reversed(found.tolist())}
    return np.array([row_of.get(digest, -1) for digest in digests], np.int64)
