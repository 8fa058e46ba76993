"""In which pictures, landmarks and answers two galleries differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from index.evaluation.queries import AnsweredQueries
from index.evaluation.truths import Truths
from index.gallery.gallery import Gallery


@dataclass(frozen=True, slots=True, eq=False)
class PictureChanges:
    """The pictures and landmarks in which two galleries differ, removed ones left out.

    Attributes:
        added: ``(a,)`` rows of the new gallery whose picture the old one lacks.
        removed: ``(r,)`` rows of the old gallery whose picture the new one lacks.
        changed: ``(c, 2)`` rows, old and new, of pictures with another content or landmark.
        landmarks_in: Ids of landmarks that only the new gallery has, in their order.
        landmarks_out: Ids of those that only the old one has.
    """

    added: NDArray[np.int64]
    removed: NDArray[np.int64]
    changed: NDArray[np.int64]
    landmarks_in: tuple[str, ...]
    landmarks_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class AnswerChanges:
    """The answers of two galleries to the ``n`` queries that both could read.

    Attributes:
        old: Answers of the old gallery.
        new: Answers of the new one, to the same queries.
        right: ``(2, n)``, whether those of the old and of the new are correct.
        changed: ``(n,)``, whether the landmark differs, or whether it counts as known.
    """

    old: AnsweredQueries
    new: AnsweredQueries
    right: NDArray[np.bool_]
    changed: NDArray[np.bool_]

    @property
    def corrected(self) -> NDArray[np.bool_]:
        """Whether each answer, ``(n,)``, was wrong and is right."""
        corrected: NDArray[np.bool_] = ~self.right[0] & self.right[1]
        return corrected

    @property
    def broken(self) -> NDArray[np.bool_]:
        """Whether each answer, ``(n,)``, was right and is wrong."""
        broken: NDArray[np.bool_] = self.right[0] & ~self.right[1]
        return broken


def compare_pictures(old: Gallery, new: Gallery) -> PictureChanges:
    """Find the pictures and landmarks in which two galleries differ."""
    rows = old.live_rows(), new.live_rows()
    ids = [_take(gallery, "picture_id", own) for gallery, own in zip((old, new), rows, strict=True)]
    found = pc.index_in(ids[1], value_set=ids[0])
    is_new = found.is_null().to_numpy(zero_copy_only=False)
    places = found.drop_null().to_numpy()
    kept = np.ones(len(rows[0]), np.bool_)
    kept[places] = False
    same = np.column_stack([rows[0][places], rows[1][~is_new]])
    shown = [[g.catalog.landmark_id(int(code)) for code in g.landmarks()] for g in (old, new)]
    lists = [frozenset(one) for one in shown]
    return PictureChanges(
        added=rows[1][is_new],
        removed=rows[0][kept],
        changed=same[_differ(old, new, same)],
        landmarks_in=tuple(one for one in shown[1] if one not in lists[0]),
        landmarks_out=tuple(one for one in shown[0] if one not in lists[1]),
    )


def _differ(old: Gallery, new: Gallery, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which pictures, ``(c, 2)`` rows, have another content or landmark."""
    contents = [_take(g, "sha256", rows[:, n]).cast(pa.binary()) for n, g in enumerate((old, new))]
    other: NDArray[np.bool_] = np.array(pc.not_equal(*contents), np.bool_)
    codes = [g.catalog.landmarks[rows[:, n]] for n, g in enumerate((old, new))]
    ids = [landmark_ids(gallery) for gallery in (old, new)]
    other |= ids[0][codes[0]] != ids[1][codes[1]]
    return other


def _take(gallery: Gallery, name: str, rows: NDArray[np.int64]) -> pa.Array:
    return gallery.catalog.column(name).take(rows).combine_chunks()


def landmark_ids(gallery: Gallery) -> NDArray[np.object_]:
    """Return the ids of all landmarks of a gallery, by code."""
    catalog = gallery.catalog
    ids = np.empty(catalog.landmark_count, object)
    ids[:] = [catalog.landmark_id(code) for code in range(catalog.landmark_count)]
    return ids


def compare_answers(
    old: tuple[Gallery, AnsweredQueries], new: tuple[Gallery, AnsweredQueries]
) -> AnswerChanges:
    """Compare the answers of two galleries to the same queries."""
    places = [{q.id: place for place, q in enumerate(one.queries)} for _, one in (old, new)]
    both = [query for query in places[0] if query in places[1]]
    own, ids, right, accepted = [], [], [], []
    for (gallery, answered), place_of in zip((old, new), places, strict=True):
        taken = answered.take(np.array([place_of[query] for query in both], np.int64))
        shown = Truths.of_queries(taken.queries, gallery.catalog)
        right.append(shown.shows(taken.answers.landmarks))
        ids.append(landmark_ids(gallery)[taken.answers.landmarks])
        accepted.append(taken.answers.accepted)
        own.append(taken)
    changed = (ids[0] != ids[1]) | (accepted[0] != accepted[1])
    return AnswerChanges(own[0], own[1], np.stack(right), changed.astype(np.bool_))
