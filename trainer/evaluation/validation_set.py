"""Which pictures a network is scored on: a share of those there are, bounded and always the same.

With a million pictures of a hundred thousand landmarks, scoring on all of them would take longer
than training on them once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from photographs import Photograph, PhotographList, Query
from photographs.prepare.split import first_of_each

_T = TypeVar("_T")


@dataclass(frozen=True)
class ValidationSet:
    """Queries, and the gallery that is searched for them.

    Attributes:
        gallery: Training pictures.
        queries: Pictures of landmarks.
        distractors: Queries of no landmark, to which any answer is wrong.
    """

    gallery: Sequence[Photograph]
    queries: Sequence[Query]
    distractors: Sequence[Query] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Number of pictures of each part."""
        names = ("gallery", "queries", "distractors")
        return {name: len(getattr(self, name)) for name in names}


@dataclass(frozen=True)
class Bounds:
    """The largest validation set.

    Attributes:
        per_landmark: Gallery pictures of each landmark.
        gallery: Pictures of the gallery.
        queries: Queries, and distractors apart from them.
    """

    per_landmark: int
    gallery: int
    queries: int


def choose_validation_set(
    train: PhotographList,
    queries: PhotographList | Sequence[Query],
    distractors: Sequence[Photograph],
    bounds: Bounds,
    *,
    seed: int,
) -> ValidationSet:
    """Choose pictures within bounds: queries at random, and a gallery that can answer them.

    The gallery has the first pictures of every landmark. Where these are too many, landmarks of
    queries come before others, and a landmark's first picture before any second one.

    Args:
        train: Training pictures.
        queries: Photographs of landmarks to ask with; or queries, some perhaps of no landmark.
        distractors: More pictures of no landmark.
        bounds: How many are chosen.
        seed: Which ones.
    """
    known: Sequence[Photograph | Query] = queries
    strange: list[Query] = []
    if not isinstance(queries, PhotographList):  # a split, of which each shows a landmark
        known = [query for query in queries if query.landmark_ids]
        strange = [query for query in queries if not query.landmark_ids]
    strange += [Query(picture.id, picture.path, ()) for picture in distractors]
    asked = [as_query(picture) for picture in _draw(known, bounds.queries, seed)]
    shown = {landmark for query in asked for landmark in query.landmark_ids}
    gallery = first_of_each(train, bounds.per_landmark)
    places = _choose_gallery(gallery, shown, bounds.gallery)
    return ValidationSet(gallery.take(places), asked, _draw(strange, bounds.queries, seed))


def as_query(picture: Photograph | Query) -> Query:
    """Ask with a photograph: its landmark is the truth."""
    if isinstance(picture, Query):
        return picture
    shown = () if picture.landmark_id is None else (picture.landmark_id,)
    return Query(picture.id, picture.path, shown)


def _draw(pictures: Sequence[_T], limit: int, seed: int) -> list[_T]:
    """Draw pictures at random, or take all if they are few; in the order given."""
    chosen = np.random.default_rng(seed).permutation(len(pictures))[:limit]
    return [pictures[place] for place in sorted(chosen.tolist())]


def _choose_gallery(train: PhotographList, shown: set[str], most: int) -> NDArray[np.int64]:
    """Return the places of at most so many pictures, ascending."""
    order = np.argsort(train.labels, kind="stable")
    of_landmark = train.labels[order]
    rank = np.arange(len(order)) - np.searchsorted(of_landmark, of_landmark)
    others = np.array([landmark not in shown for landmark in train.landmarks], bool)
    first = np.lexsort((rank, others[train.labels[order]]))[:most]
    chosen: NDArray[np.int64] = np.sort(order[first])
    return chosen
