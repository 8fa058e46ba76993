"""Judge a finished network on the pictures kept back: by its head, and by the rules of serving.

The rungs of the ladder answer the same queries: the head that is thrown away, the nearest picture,
a vote of the nearest ones, that of the recipe where its ranking is one; with pictures of no
landmark, also the nearest picture less the penalties of :mod:`index.ranking.ranking`. Random
queries of known landmarks flatter every rung; what they are good for is to be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from index.evaluation.metrics import Prediction, auroc, gap, group_by_size, top1_accuracy
from index.gallery.gallery import Neighbors, nearest
from index.ranking.ranking import Ranking, mean_of_largest, rank
from photographs import Photograph, landmark_order
from trainer.evaluation.validate import embed_photographs
from trainer.heads.head import Head
from trainer.model.inference_module import ViewEmbeddings, combine_views
from trainer.model.network import EmbeddingNetwork
from trainer.model.whitening import Whitening, learn_whitening
from trainer.recipe import EmbedderRecipe

CLASS_SIZES = (1, 5, 20, 100, 500)
"""The smallest number of pictures of each group of landmarks that are judged together."""

_VOTE = Ranking(rule="vote")
"""What is judged where the recipe does not vote."""


@dataclass(frozen=True)
class Candidate:
    """A trained network and what it is judged with.

    Attributes:
        recipe: How it will be served.
        network: In evaluation mode.
        head: It was trained with.
        landmarks: Their ids in the order of the head's numbers.
        sizes: Pictures of each landmark that were learned from.
        bf16: Compute in bfloat16.
    """

    recipe: EmbedderRecipe
    network: EmbeddingNetwork
    head: Head
    landmarks: Sequence[str]
    sizes: Mapping[str, int]
    bf16: bool


@dataclass(frozen=True)
class Judged:
    """What the pictures kept back were answered, and those of no landmark.

    Attributes:
        gallery: What was searched.
        queries: The readable ones; those of no landmark have none.
        neighbors: Of each query, as it will be served.
        answers: By the nearest picture.
        ladder: Figures of each rule.
        class_sizes: Figures by the number of pictures that were learned from.
    """

    gallery: Sequence[Photograph]
    queries: Sequence[Photograph]
    neighbors: Neighbors
    answers: Sequence[Prediction]
    ladder: list[dict[str, Any]]
    class_sizes: list[dict[str, Any]]


@dataclass(frozen=True)
class _Search:
    """Queries and the gallery that is searched for them.

    Attributes:
        names: Landmark ids by code.
        landmarks: ``(m,)``, code of each gallery picture.
        queries: ``n`` of them.
        seen: ``(m, views, d)`` unit rows of the gallery.
        asked: ``(n, views, d)`` unit rows of the queries.
        vote: The vote that is judged.
    """

    names: Sequence[str]
    landmarks: NDArray[np.int64]
    queries: Sequence[Photograph]
    seen: NDArray[np.float32]
    asked: NDArray[np.float32]
    vote: Ranking

    def nearest(self, whitening: Whitening | None) -> Neighbors:
        """Find the neighbors of each query, as they will be served."""
        rows = _finished(self.seen, whitening), _finished(self.asked, whitening)
        return nearest(*rows, max(self.vote.neighbors, _VOTE.neighbors))

    def answer(self, neighbors: Neighbors, ranking: Ranking) -> list[Prediction]:
        """Answer each query by its neighbors."""
        codes = self.landmarks[neighbors.rows]
        triples = zip(self.queries, codes, neighbors.similarities, strict=True)
        ranked = [(query, rank(row, cosines, ranking)) for query, row, cosines in triples]
        return [
            Prediction(_name(query), self.names[best.landmark], best.score)
            for query, best in ranked
        ]

    def penalized(
        self, whitening: Whitening | None, strangers: NDArray[np.float32]
    ) -> dict[str, list[Prediction]]:
        """Answer by the nearest picture, less what looks like pictures of no landmark.

        Args:
            whitening: As it will be served.
            strangers: ``(s, views, d)`` unit rows of pictures of no landmark.
        """
        rows, asked = _finished(self.seen, whitening), _finished(self.asked, whitening)
        reference = _finished(strangers, whitening).T
        of_gallery = mean_of_largest(rows @ reference, _VOTE.gallery_distractors)
        of_queries = mean_of_largest(asked @ reference, _VOTE.query_distractors)
        found = {}
        for name, b, c in (("B", 1, 0), ("C", 0, 1), ("B+C", 1, 1)):
            # One number more on both sides takes B off every similarity. Halves stay in [-1, 1],
            # to which similarities are held.
            halves = np.c_[rows, -b * of_gallery] / 2
            wider = np.c_[asked, np.ones(len(asked), np.float32)]
            answers = self.answer(nearest(halves, wider, 1), Ranking())
            found[f"top1 - {name}"] = [
                replace(answer, confidence=2 * answer.confidence - c * float(penalty))
                for answer, penalty in zip(answers, of_queries, strict=True)
            ]
        return found


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


def judge(
    candidate: Candidate,
    gallery: Sequence[Photograph],
    queries: Sequence[Photograph],
    distractors: Sequence[Photograph] = (),
) -> tuple[Judged | None, Whitening | None]:
    """Judge a network, and learn its whitening if its recipe asks for one.

    Args:
        candidate: The network.
        gallery: Pictures that were learned from; the whitening is learned from them too.
        queries: Pictures kept back.
        distractors: Pictures of no landmark. Every second one is asked too, where any answer is
            wrong; the others are what penalties are measured by.

    Returns:
        What was found, None without readable queries; and the whitening.

    Raises:
        TrainingError: The pictures are too few to learn a whitening.
    """
    recipe, bf16 = candidate.recipe, candidate.bf16
    if not queries and not recipe.embed_whiten:
        return None, None
    views = ViewEmbeddings(candidate.network, recipe.embed_views).eval()
    searched, seen = embed_photographs(views, gallery, recipe.embed, bf16=bf16)
    whitening = None
    if recipe.embed_whiten:
        whitening = learn_whitening(_finished(seen, None), recipe.embed_whiten)
    strangers = [replace(photograph, landmark_id=None) for photograph in distractors[1::2]]
    queries = [*queries, *strangers]
    readable, asked = embed_photographs(views, queries, recipe.embed, bf16=bf16)
    if not searched or not any(query.landmark_id for query in readable):
        return None, whitening
    held = [str(photograph.landmark_id) for photograph in searched]
    names = sorted(set(held), key=landmark_order)
    codes = {landmark: code for code, landmark in enumerate(names)}
    landmarks = np.array([codes[landmark] for landmark in held])
    vote = recipe.ranking if recipe.ranking.rule == "vote" else _VOTE
    search = _Search(names, landmarks, readable, seen, asked, vote)
    neighbors = search.nearest(whitening)
    rungs = {"head": _head_answers(candidate, queries)}
    if whitening or len(recipe.embed_views) > 1:
        plain = replace(search, seen=seen[:, :1], asked=asked[:, :1])
        rungs["top1, one view, not whitened"] = plain.answer(plain.nearest(None), Ranking())
    rungs["top1"] = search.answer(neighbors, Ranking())
    rungs["vote"] = search.answer(neighbors, vote)
    measured, reference = embed_photographs(views, distractors[::2], recipe.embed, bf16=bf16)
    if strangers and measured:
        rungs |= search.penalized(whitening, reference)
    truths = {_name(p): [p.landmark_id] if p.landmark_id else [] for p in queries}
    judged = Judged(
        gallery=searched,
        queries=readable,
        neighbors=neighbors,
        answers=rungs["top1"],
        ladder=[{"ranking": name, **_figures(given, truths)} for name, given in rungs.items()],
        class_sizes=_class_sizes(rungs["top1"], truths, candidate.sizes),
    )
    return judged, whitening


def _name(query: Photograph) -> str:
    """Name a query so that one of no landmark is not taken for another one."""
    return query.id if query.landmark_id else f"distractor {query.id}"


def _finished(seen: NDArray[np.float32], whitening: Whitening | None) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = combine_views(torch.from_numpy(seen), whitening).numpy()
    return rows


def _head_answers(candidate: Candidate, queries: Sequence[Photograph]) -> list[Prediction]:
    asked, found = embed_photographs(
        _HeadAnswers(candidate).eval(), queries, candidate.recipe.embed, bf16=candidate.bf16
    )
    return [
        Prediction(_name(query), candidate.landmarks[int(code)], float(score))
        for query, (score, code) in zip(asked, found, strict=True)
    ]


def _figures(
    answers: Sequence[Prediction], truths: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    figures = {"gap": gap(answers, truths), "top1": top1_accuracy(answers, truths)}
    unknown = [answer.confidence for answer in answers if not truths[answer.query_id]]
    if unknown:
        known = [answer.confidence for answer in answers if truths[answer.query_id]]
        figures["auroc"] = auroc(known, unknown)
    return figures


def _class_sizes(
    answers: Sequence[Prediction],
    truths: Mapping[str, Sequence[str]],
    sizes: Mapping[str, int],
) -> list[dict[str, Any]]:
    """Judge the queries of landmarks with about as many pictures together."""
    return [
        {
            "pictures": least,
            "queries": len(asked),
            **_figures([answer for answer in answers if answer.query_id in asked], asked),
        }
        for least, asked in group_by_size(truths, sizes, CLASS_SIZES).items()
        if asked
    ]
