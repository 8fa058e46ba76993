"""The embeddings of a build: those that the cache of unfinished builds has, and the others.

Each batch is in the cache before the next one is embedded, so a killed build repeats a few
batches. Of the same photographs, an uninterrupted build gives the network the same batches as one
that was killed and resumed, whose vectors are therefore the same to the last digit.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from index.building.embedded import EmbeddedBatch, ReadPicture
from index.building.pipeline import (
    WRITE,
    KnownVectors,
    PipelineOptions,
    StageTimes,
    cut,
    embed_files,
    find_files,
    reader_count,
)
from index.building.unreadable import UnreadablePictures
from index.building.vector_cache import VectorCache
from index.gallery.gallery import Gallery
from index.progress import progress_bar
from photographs import PhotographList

_RATE_SECONDS = 20.0
"""So long after the first batch the rate is known well enough to tell how long it will take."""

_log = logging.getLogger(__name__)


class Embeddings:
    """The embeddings of ``n`` photographs, kept in a cache.

    Attributes:
        photographs: The photographs.
        usable: ``(n,)``, whether each is embedded; false also where it cannot be read.
        embedded: How many of them the network has embedded since this was made.
    """

    def __init__(
        self, photographs: PhotographList, cache: VectorCache, unreadable: UnreadablePictures
    ) -> None:
        self.photographs = photographs
        self.usable = np.zeros(len(photographs), np.bool_)
        self.embedded = 0
        self._cache, self._unreadable = cache, unreadable
        self._rows = np.zeros(len(photographs), np.int64)
        self._again = np.zeros(len(photographs), np.bool_)

    def missing(self) -> NDArray[np.int64]:
        """Return the places of the photographs that the cache does not have."""
        return np.flatnonzero(self._rows == 0)

    def find(self, readers: int) -> None:
        """Look for files that have not changed since they were put into the cache.

        Those that could not be read then are read again: formats and limits may have changed.
        """
        if not self._cache.count():
            return
        place = 0
        with progress_bar(len(self.photographs), what="look up") as bar:
            for paths, states in find_files(self.photographs, readers):
                for found in self._cache.find(paths, states.tolist()):
                    if found is not None and found.picture.usable:
                        self._note(place, found.number, found.picture)
                    elif found is not None:
                        self._again[place] = True
                    place += 1
                bar.update(len(paths))
        if found_before := place - len(self.missing()):
            _log.info("%d of %d pictures were embedded before; resuming", found_before, place)

    def complete(
        self,
        embedder: Embedder,
        options: PipelineOptions,
        *,
        gallery: Gallery | None,
        thumbnail_side: int,
    ) -> None:
        """Embed what is missing, but for contents that ``gallery`` or the cache has.

        Raises:
            TooManyUnreadableError: Too many pictures cannot be read.
        """
        missing, times = self.missing(), StageTimes(reader_count(options.readers))
        total = len(self.photographs)
        begun: deque[tuple[NDArray[np.int64], list[Path]]] = deque()

        def start() -> Iterator[list[Path]]:
            # in batches of their own, so that those of the others stay as they are
            again = self._again[missing]
            parts = (cut(missing[one], options.batch_pictures) for one in (again, ~again))
            for places in chain.from_iterable(parts):
                paths = [photograph.path for photograph in self.photographs.take(places)]
                begun.append((places, paths))
                yield paths

        embedded = embed_files(
            start(),
            embedder,
            options=options,
            known=self._known(gallery),
            times=times,
            thumbnail_side=thumbnail_side,
        )
        with (
            closing(embedded),  # its threads end where too many pictures cannot be read
            progress_bar(total, done=total - len(missing), what="embed") as bar,
        ):
            pace = _Pace(len(missing))
            for batch in embedded:
                places, paths = begun.popleft()
                with times.busy(WRITE):
                    rows = self._cache.write(paths, batch)
                for place, row, picture in zip(places.tolist(), rows, batch.pictures, strict=True):
                    self._note(place, row, picture)
                self.embedded += batch.embedded
                pace.count(len(places))
                bar.set_postfix_str(str(times), refresh=False)
                bar.update(len(places))
        shares = ", ".join(f"{stage} {share:.0%}" for stage, share in times.shares().items())
        _log.info("%d pictures embedded; busy: %s; %s", self.embedded, shares, times)

    def read(self, places: slice) -> EmbeddedBatch:
        """Return the usable ones of some photographs, all of which are in the cache."""
        return self._cache.read(self._rows[places][self.usable[places]].tolist())

    def forget(self) -> bool:
        """Delete these from the cache, or tell that it has no others and may be deleted whole."""
        rows = np.unique(self._rows)
        if self._cache.count() <= len(rows):
            return True
        self._cache.forget(rows)
        return False

    def _note(self, place: int, row: int, picture: ReadPicture) -> None:
        self._rows[place] = row
        self.usable[place] = picture.usable
        if not picture.usable:
            self._unreadable.add(place, self.photographs[place], picture)

    def _known(self, gallery: Gallery | None) -> KnownVectors:
        def find(sha256: bytes) -> NDArray[np.float32] | None:
            row = None if gallery is None else gallery.catalog.row_of_content(sha256)
            if gallery is None or row is None:
                return self._cache.find_content(sha256)
            vector: NDArray[np.float32] = gallery.vectors(np.array([row]))[0]
            return vector

        return find


class _Pace:
    """Says once how long the rest will take, as soon as the rate is known."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._told = total, 0, False
        self._started = time.monotonic()

    def count(self, pictures: int) -> None:
        self._done += pictures
        seconds = time.monotonic() - self._started
        if not self._told and seconds >= _RATE_SECONDS:
            rate = self._done / seconds
            left = (self._total - self._done) / rate
            _log.info("%.0f pictures a second: about %s to go", rate, describe_seconds(left))
            self._told = True


def describe_seconds(seconds: float) -> str:
    """Word a time for people.

    >>> describe_seconds(40), describe_seconds(5400), describe_seconds(200_000)
    ('1 minutes', '90 minutes', '55.6 hours')
    """
    if seconds < 2 * 3600:
        return f"{max(1, round(seconds / 60))} minutes"
    return f"{seconds / 3600:.1f} hours"
