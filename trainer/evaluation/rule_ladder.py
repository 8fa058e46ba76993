"""Compare rules of answering on the validation pictures of a finished network.

The rungs of the ladder answer the same queries: the head that is thrown away, the nearest picture,
a vote of the nearest ones (that of the recipe where its ranking is one), and with distractors also
the nearest picture less the penalties of :mod:`index.ranking.ranking`. Random queries of known
landmarks flatter every rung; they are good for comparing them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from index.evaluation.metrics import Prediction, group_by_size, top1_accuracy
from index.ranking.ranking import Ranking, mean_of_largest, rank
from index.search.faiss_search import nearest
from index.search.neighbors import Neighbors
from photographs import Photograph, Query, landmark_order
from trainer.evaluation.embed import embed_photographs
from trainer.evaluation.validate import measure_answers
from trainer.evaluation.validation_set import ValidationSet
from trainer.heads import Head
from trainer.model.adapter import LinearAdapter, learn_whitening
from trainer.model.inference_module import ViewEmbeddings, combine_views
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import EmbedderRecipe

CLASS_SIZES = (1, 5, 20, 100, 500)
"""The smallest number of training pictures in each group of landmarks of like size."""

_VOTE = Ranking(rule="vote")
"""The vote that is measured where the recipe does not vote."""


@dataclass(frozen=True)
class Candidate:
    """A trained network and what it is measured with.

    Attributes:
        recipe: How it will be served.
        network: In evaluation mode.
        head: The one that it was trained with.
        landmarks: Their ids in the order of the head's classes.
        sizes: Training pictures of each landmark.
        bf16: Compute in bfloat16.
    """

    recipe: EmbedderRecipe
    network: EmbeddingNetwork
    head: Head
    landmarks: Sequence[str]
    sizes: Mapping[str, int]
    bf16: bool


@dataclass(frozen=True)
class RuleLadder:
    """The answers to validation pictures and distractors, and the metrics of each rule.

    Attributes:
        gallery: The pictures that were searched.
        queries: The readable ones; distractors show no landmark.
        neighbors: Of each query, as they will be served.
        answers: By the nearest picture.
        rungs: The metrics of each rule.
        class_sizes: The metrics of the nearest picture by the number of training pictures.
    """

    gallery: Sequence[Photograph]
    queries: Sequence[Query]
    neighbors: Neighbors
    answers: Sequence[Prediction]
    rungs: list[dict[str, Any]]
    class_sizes: list[dict[str, Any]]


def measure_rules(
    candidate: Candidate, pictures: ValidationSet
) -> tuple[RuleLadder | None, LinearAdapter | None]:
    """Measure a network by every rule, and learn its whitening if its recipe asks for one.

    Args:
        candidate: The network.
        pictures: Of the gallery the whitening is learned, too. Every second distractor is a query;
            the others are those that penalties are measured with.

    Returns:
        The ladder, None without readable queries; and the whitening.

    Raises:
        TrainingError: The pictures are too few to learn a whitening.
    """
    recipe, distractors = candidate.recipe, pictures.distractors
    if not pictures.queries and not recipe.embed_whiten:
        return None, None
    views = ViewEmbeddings(candidate.network, recipe.embed_views).eval()
    embed = partial(embed_photographs, views, preprocess=recipe.embed, bf16=candidate.bf16)
    places, gallery_views = embed(pictures.gallery, progress="gallery")
    searched = [pictures.gallery[place] for place in places]
    whitening = None
    if recipe.embed_whiten:
        whitening = learn_whitening(_finish(gallery_views, None), recipe.embed_whiten)
    unknown = distractors[1::2]
    queries = [*pictures.queries, *unknown]
    places, query_views = embed(queries, progress="queries")
    readable = [queries[place] for place in places]
    if not searched or not any(query.landmark_ids for query in readable):
        return None, whitening
    vote = recipe.ranking if recipe.ranking.rule == "vote" else _VOTE
    names, landmarks = _number_landmarks(searched)
    search = _Search(names, landmarks, readable, gallery_views, query_views, whitening, vote)
    neighbors = search.find_neighbors()
    answers = {"head": _answer_by_head(candidate, queries), **search.answer_by_rules(neighbors)}
    measured, reference_views = embed(distractors[::2], progress="distractors")
    if unknown and len(measured):
        answers |= search.answer_with_penalties(reference_views)
    truths = {_name(query): query.landmark_ids for query in queries}
    ladder = RuleLadder(
        gallery=searched,
        queries=readable,
        neighbors=neighbors,
        answers=answers["top1"],
        rungs=[{"ranking": rule, **_metrics(given, truths)} for rule, given in answers.items()],
        class_sizes=_by_class_size(answers["top1"], truths, candidate.sizes),
    )
    return ladder, whitening


@dataclass(frozen=True)
class _Search:
    """Queries, and the gallery that is searched for them.

    Attributes:
        names: Landmark ids by code.
        landmarks: ``(m,)``, code of each gallery picture.
        queries: ``n`` of them.
        gallery_views: ``(m, views, d)`` unit rows.
        query_views: ``(n, views, d)`` unit rows.
        whitening: As it will be served.
        vote: The vote that is measured.
    """

    names: Sequence[str]
    landmarks: NDArray[np.int64]
    queries: Sequence[Query]
    gallery_views: NDArray[np.float32]
    query_views: NDArray[np.float32]
    whitening: LinearAdapter | None
    vote: Ranking

    def find_neighbors(self) -> Neighbors:
        """Find the neighbors of each query, as they will be served."""
        return nearest(
            _finish(self.gallery_views, self.whitening),
            _finish(self.query_views, self.whitening),
            max(self.vote.neighbors, _VOTE.neighbors),
        )

    def answer_by_rules(self, neighbors: Neighbors) -> dict[str, list[Prediction]]:
        """Answer by the nearest picture and by vote; without views and whitening if there are."""
        answers = {}
        if self.whitening or self.gallery_views.shape[1] > 1:
            rows, query_rows = (
                _finish(v[:, :1], None) for v in (self.gallery_views, self.query_views)
            )
            found = nearest(rows, query_rows, neighbors.rows.shape[1])
            answers["top1, one view, not whitened"] = self._answer(found, Ranking())
        answers["top1"] = self._answer(neighbors, Ranking())
        answers["vote"] = self._answer(neighbors, self.vote)
        return answers

    def answer_with_penalties(
        self, reference_views: NDArray[np.float32]
    ) -> dict[str, list[Prediction]]:
        """Answer by the nearest picture, less how much it and the query resemble distractors.

        Args:
            reference_views: ``(s, views, d)`` unit rows of distractors.
        """
        rows = _finish(self.gallery_views, self.whitening)
        query_rows = _finish(self.query_views, self.whitening)
        reference = _finish(reference_views, self.whitening).T
        of_gallery = mean_of_largest(rows @ reference, _VOTE.gallery_distractors)
        of_queries = mean_of_largest(query_rows @ reference, _VOTE.query_distractors)
        found = {}
        for name, b, c in (("B", 1, 0), ("C", 0, 1), ("B+C", 1, 1)):
            # One number more on both sides subtracts B from every similarity. Halves stay in
            # [-1, 1], to which similarities are clipped.
            halves = np.c_[rows, -b * of_gallery] / 2
            wider = np.c_[query_rows, np.ones(len(query_rows), np.float32)]
            answers = self._answer(nearest(halves, wider, 1), Ranking())
            found[f"top1 - {name}"] = [
                replace(answer, confidence=2 * answer.confidence - c * float(penalty))
                for answer, penalty in zip(answers, of_queries, strict=True)
            ]
        return found

    def _answer(self, neighbors: Neighbors, ranking: Ranking) -> list[Prediction]:
        """Answer each query by its neighbors."""
        codes = self.landmarks[neighbors.rows]
        triples = zip(self.queries, codes, neighbors.similarities, strict=True)
        ranked = [(query, rank(row, cosines, ranking)) for query, row, cosines in triples]
        return [
            Prediction(_name(query), self.names[best.landmark], best.score)
            for query, best in ranked
        ]


class _HeadAnswers(nn.Module):
    """The head's best landmark of each picture, and its score: ``(n, 2)``."""

    def __init__(self, candidate: Candidate) -> None:
        super().__init__()
        self.network = candidate.network
        self.head = candidate.head

    def forward(self, pictures: Tensor) -> Tensor:
        """Answer; the head computes in float32, as in training."""
        embeddings = self.network.embed_unnormalized(pictures)
        with torch.autocast(pictures.device.type, enabled=False):
            scores = self.head.scores(embeddings, None)
        return torch.stack([best.float() for best in scores.max(dim=1)], dim=1)


def _number_landmarks(photographs: Sequence[Photograph]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the landmarks of photographs, and the place in them of each photograph's own."""
    names = sorted({str(photograph.landmark_id) for photograph in photographs}, key=landmark_order)
    codes = {landmark: code for code, landmark in enumerate(names)}
    return names, np.array([codes[str(photograph.landmark_id)] for photograph in photographs])


def _name(query: Query) -> str:
    """Name a query; a distractor is not taken for a picture of the same id."""
    return query.id if query.landmark_ids else f"distractor {query.id}"


def _finish(views: NDArray[np.float32], whitening: LinearAdapter | None) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = combine_views(torch.from_numpy(views), whitening).numpy()
    return rows


def _answer_by_head(candidate: Candidate, queries: Sequence[Query]) -> list[Prediction]:
    answered, best = embed_photographs(
        _HeadAnswers(candidate).eval(), queries, candidate.recipe.embed, bf16=candidate.bf16
    )
    return [
        Prediction(_name(queries[place]), candidate.landmarks[int(number)], float(score))
        for place, (score, number) in zip(answered.tolist(), best, strict=True)
    ]


def _metrics(
    answers: Sequence[Prediction], truths: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    found = measure_answers(answers, truths)
    metrics = {"gap": found.gap, "top1": top1_accuracy(answers, truths)}
    return metrics if found.auroc is None else {**metrics, "auroc": found.auroc}


def _by_class_size(
    answers: Sequence[Prediction],
    truths: Mapping[str, Sequence[str]],
    sizes: Mapping[str, int],
) -> list[dict[str, Any]]:
    """Measure the queries of landmarks with about as many training pictures together."""
    return [
        {
            "pictures": least,
            "queries": len(group),
            **_metrics([answer for answer in answers if answer.query_id in group], group),
        }
        for least, group in group_by_size(truths, sizes, CLASS_SIZES).items()
        if group
    ]
