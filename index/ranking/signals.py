"""Signals that tell right answers from wrong ones; pure.

They cost no search of their own: most come from the neighbors that the answer was made of. Their
definitions are fixed, since the weights of a calibration were fitted to them: a signal that is
computed differently gets a new name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

SEEN_ROWS: Final = 50
"""Nearest rows that signals are computed from, all where there are fewer."""

NEAREST_ROWS: Final = 10
"""The nearest of them, for agreement and density."""

CENTER_ROWS: Final = 32
"""Most pictures of a landmark that its center is the mean of, evenly spread over them."""

_VOTERS, _POWER = 5, 8.0

SIGNS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "cosine": 1,
        "margin": 1,
        "vote": 1,
        "agreement": 1,
        "density": 0,
        "log_pictures": 0,
        "center": 1,
        "center_margin": 1,
        "row_penalty": -1,
        "query_penalty": -1,
    }
)
"""The signals of an answer, in their order, and the sign that the weight of each must have.

A larger cosine never lowers the probability, as those that rise with it have no negative weight:

* ``cosine``: of the most similar picture of the landmark.
* ``margin``: by how much that exceeds the most similar picture of another landmark.
* ``vote``: power mean of the cosines of the landmark among the five nearest.
* ``agreement``: share of the ten nearest that show the landmark.
* ``density``: mean cosine of the most similar picture to the ten nearest.
* ``log_pictures``: logarithm of the number of pictures of the landmark.
* ``center``: cosine to the center of the landmark.
* ``center_margin``: by how much that exceeds the center of the other landmark of ``margin``.
* ``row_penalty``, ``query_penalty``: similarity of that picture, and of the query, to
  distractors: B and C of :class:`index.ranking.ranking.Ranking`; 0 without distractors.
"""

SIGNALS: Final = tuple(SIGNS)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the gallery shows of one query and its answer.

    Attributes:
        similarities: ``(w,)`` cosines of the rows nearest to the query, at most
            :data:`SEEN_ROWS`, nearest first.
        own: ``(w,)``, which of them show the answer; at least one does.
        density: Mean cosine of the most similar row of the answer to the others of the
            :data:`NEAREST_ROWS` nearest; 1 where there is no other.
        pictures: How many rows show the answer.
        center: Cosine of the query to the center of the answer.
        other_center: The same of the landmark of the most similar other row; ``None`` where
            there is none.
        row_penalty: Penalty B of the most similar row, of strength 1.
        query_penalty: Penalty C of the query, of strength 1.
    """

    similarities: NDArray[np.float32]
    own: NDArray[np.bool_]
    density: float
    pictures: int
    center: float
    other_center: float | None
    row_penalty: float = 0.0
    query_penalty: float = 0.0

    def signals(self) -> NDArray[np.float64]:
        """Return the signals, ``(s,)``, in the order of :data:`SIGNALS`.

        Where no other landmark is among the rows, it is at most as similar as the last of them;
        its center is taken to be so, too.
        """
        similarities = self.similarities.astype(np.float64)
        cosine, last = float(similarities[self.own].max()), float(similarities.min())
        other = float(similarities[~self.own].max(initial=-1.0)) if not self.own.all() else last
        other_center = last if self.other_center is None else self.other_center
        votes = np.where(self.own, similarities.clip(0.0), 0.0)[:_VOTERS] ** _POWER
        return np.array(
            [
                cosine,
                cosine - other,
                float(votes.mean()) ** (1 / _POWER),
                float(self.own[:NEAREST_ROWS].mean()),
                self.density,
                math.log(self.pictures),
                self.center,
                self.center - other_center,
                self.row_penalty,
                self.query_penalty,
            ]
        )
