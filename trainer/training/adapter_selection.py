"""Choose an adapter for an embedder, by pictures that it has not learned from.

A part of each landmark's pictures become queries. In each of several folds some landmarks are
left out of the training, too. Their queries ask twice: against a gallery without their landmark,
where every answer is wrong, and against one with it, as if the landmark had been added later.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from embedder.errors import TrainingError
from index.evaluation.metrics import auroc, gap_of
from index.search.faiss_search import nearest
from trainer.model.adapter import LinearAdapter, learn_supervised_whitening
from trainer.training.linear_layer import learn_linear_layer

UNCHANGED = "unchanged"
"""Name of the embedder without an adapter."""

_FOLDS = 4
_HALVINGS = 3
_SHRINK = 0.1

_Adapters = Sequence[LinearAdapter | None]


@dataclass(frozen=True)
class LabeledRows:
    """The vectors of pictures, some of which become queries.

    Attributes:
        rows: ``(n, d)`` unit rows.
        labels: ``(n,)``, the landmark of each.
        asked: ``(n,)``, which are queries; each landmark has pictures that are none.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    asked: NDArray[np.bool_]

    def where(self, mask: NDArray[np.bool_]) -> "LabeledRows":
        """Return the pictures where ``mask`` is true."""
        return LabeledRows(self.rows[mask], self.labels[mask], self.asked[mask])

    def learn(self, whitening: LinearAdapter | None = None) -> LinearAdapter:
        """Learn a whitening, or train one further."""
        if whitening is None:
            return learn_supervised_whitening(self.rows, self.labels, shrink=_SHRINK)
        numbers = np.unique(self.labels, return_inverse=True)[1]
        return learn_linear_layer(whitening, self.rows, numbers)


@dataclass(frozen=True)
class AdapterMetrics:
    """How well an adapter answers the queries of all folds.

    Attributes:
        gaps: GAP in each fold, in which a part of the landmarks are not in the gallery.
        auroc: How well confidence separates queries of these from the others; the mean.
        left_out: Share of right answers to queries of landmarks that the adapter has not seen,
            from a gallery of all landmarks.
    """

    gaps: tuple[float, ...]
    auroc: float
    left_out: float

    @property
    def gap(self) -> float:
        """The mean over the folds."""
        return fmean(self.gaps)

    def improves(self, other: "AdapterMetrics") -> bool:
        """Tell whether GAP is higher in every fold, and landmarks left out lose nothing."""
        higher = all(own > theirs for own, theirs in zip(self.gaps, other.gaps, strict=True))
        return higher and self.left_out >= other.left_out


@dataclass(frozen=True)
class AdapterChoice:
    """The adapter that answers best.

    Attributes:
        name: Its name; :data:`UNCHANGED` where none improves the embedder.
        adapter: Learned from all pictures; None where none improves the embedder.
        metrics: Of every candidate, by name.
    """

    name: str
    adapter: LinearAdapter | None
    metrics: Mapping[str, AdapterMetrics]


def choose_adapter(pictures: LabeledRows, *, seed: int = 0) -> AdapterChoice:
    """Choose among whitenings to several dimensions and the best of these, trained further.

    Args:
        pictures: The pictures.
        seed: Which landmarks are left out of which fold.

    Raises:
        TrainingError: Too few landmarks have queries, or too few pictures that are none.
    """
    folds = list(_cut(pictures, seed))
    d: int = pictures.rows.shape[1]
    dimensions = {f"whitening to {d >> n}": d >> n for n in range(_HALVINGS + 1) if d >> n > 1}
    whitenings = [fold.training.learn() for fold in folds]
    metrics = {UNCHANGED: _measure(folds, [None] * _FOLDS)}
    for name, dimension in dimensions.items():
        metrics[name] = _measure(folds, [one.first(dimension) for one in whitenings])
    best = _best(metrics)
    dimension = dimensions.get(best, d)
    trained = f"linear layer to {dimension}"
    pairs = zip(folds, whitenings, strict=True)
    layers = [fold.training.learn(one.first(dimension)) for fold, one in pairs]
    metrics[trained] = _measure(folds, layers)
    best = _best(metrics)
    if best == UNCHANGED:
        return AdapterChoice(best, None, metrics)
    whitening = pictures.learn().first(dimension)
    return AdapterChoice(best, pictures.learn(whitening) if best == trained else whitening, metrics)


def _best(metrics: Mapping[str, AdapterMetrics]) -> str:
    """Return the candidate of highest GAP among those that improve the embedder, if any."""
    unchanged = metrics[UNCHANGED]
    better = {name: one.gap for name, one in metrics.items() if one.improves(unchanged)}
    return max(better, key=better.__getitem__, default=UNCHANGED)


@dataclass(frozen=True)
class _Fold:
    """Pictures, and which of them show a landmark that is left out."""

    pictures: LabeledRows
    left_out: NDArray[np.bool_]

    @property
    def training(self) -> LabeledRows:
        return self.pictures.where(~self.pictures.asked & ~self.left_out)

    def adapt(self, adapter: LinearAdapter | None) -> LabeledRows:
        """Return the pictures with adapted rows."""
        if adapter is None:
            return self.pictures
        rows = functional.normalize(adapter(torch.from_numpy(self.pictures.rows))).numpy()
        return replace(self.pictures, rows=rows)


def _cut(pictures: LabeledRows, seed: int) -> Iterator[_Fold]:
    """Leave out the landmarks of each fold in turn; only those with queries are ever left out."""
    with_queries = np.unique(pictures.labels[pictures.asked])
    if len(with_queries) < _FOLDS:
        raise TrainingError(
            f"an adapter needs at least {_FOLDS} landmarks with three readable pictures; "
            f"there are {len(with_queries)}"
        )
    shuffled = np.random.default_rng(seed).permutation(with_queries)
    for number in range(_FOLDS):
        yield _Fold(pictures, np.isin(pictures.labels, shuffled[number::_FOLDS]))


def _measure(folds: Sequence[_Fold], adapters: _Adapters) -> AdapterMetrics:
    gaps, aurocs, named = [], [], list[NDArray[np.bool_]]()
    for fold, adapter in zip(folds, adapters, strict=True):
        pictures, unseen = fold.adapt(adapter), fold.left_out
        asked = pictures.asked
        confidences, right = _answer(pictures, ~asked & ~unseen, asked)
        known = ~unseen[asked]
        gaps.append(gap_of(confidences, right, int(known.sum())))
        aurocs.append(auroc(confidences[known], confidences[~known]))
        named.append(_answer(pictures, ~asked, asked & unseen)[1])
    return AdapterMetrics(tuple(gaps), fmean(aurocs), float(np.concatenate(named).mean()))


def _answer(
    pictures: LabeledRows, gallery: NDArray[np.bool_], asked: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Answer by the nearest picture; return the confidences, and which answers are right."""
    found = nearest(pictures.rows[gallery], pictures.rows[asked], 1)
    answers = pictures.labels[gallery][found.rows[:, 0]]
    return found.similarities[:, 0], answers == pictures.labels[asked]
