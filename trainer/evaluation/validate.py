"""Score a network by top1: the nearest picture answers, as galleries do by default."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from embedder.manifest import Preprocess
from index.evaluation.metrics import Prediction, auroc, gap
from index.search.faiss_search import nearest
from trainer.evaluation.embed import embed_photographs
from trainer.evaluation.validation_set import ValidationSet


@dataclass(frozen=True, slots=True)
class Metrics:
    """How well queries are answered.

    Attributes:
        gap: Global average precision in [0, 1]; -1 where the gallery or the queries are empty.
        auroc: How well confidence separates queries of landmarks from distractors, 0.5 by chance;
            ``None`` without distractors.
    """

    gap: float
    auroc: float | None


def top1_metrics(
    network: nn.Module, pictures: ValidationSet, preprocess: Preprocess, *, bf16: bool
) -> Metrics:
    """Score answers to queries, each given by the nearest picture of the gallery.

    Args:
        network: In evaluation mode.
        pictures: Gallery and queries, none of which is in both.
        preprocess: How all are prepared.
        bf16: Compute in bfloat16.

    Returns:
        The metrics of all answers together; a picture that cannot be read has none.
    """
    if not pictures.queries:
        return Metrics(-1.0, None)
    embed = partial(embed_photographs, network, preprocess=preprocess, bf16=bf16)
    searched, rows = embed(pictures.gallery, progress="gallery")
    known, vectors = embed(pictures.queries, progress="queries")
    if not len(searched) or not len(known):
        return Metrics(-1.0, None)
    landmarks = [str(pictures.gallery[place].landmark_id) for place in searched]
    truths = {query.id: query.landmark_ids for query in pictures.queries}
    answers = _answer([pictures.queries[place].id for place in known], landmarks, rows, vectors)
    unknown, vectors = embed(pictures.distractors, progress="distractors")
    if len(unknown):
        names = [f"distractor {number}" for number in range(len(unknown))]
        answers += _answer(names, landmarks, rows, vectors)
        truths |= dict.fromkeys(names, ())
    return measure_answers(answers, truths)


def measure_answers(answers: Sequence[Prediction], truths: Mapping[str, Sequence[str]]) -> Metrics:
    """Compute the metrics of answers; the truth of a query is its landmark, of a distractor []."""
    known = [answer.confidence for answer in answers if truths[answer.query_id]]
    unknown = [answer.confidence for answer in answers if not truths[answer.query_id]]
    return Metrics(gap(answers, truths), auroc(known, unknown) if unknown else None)


def _answer(
    names: Sequence[str],
    landmarks: Sequence[str],
    rows: NDArray[np.float32],
    vectors: NDArray[np.float32],
) -> list[Prediction]:
    """Answer each named query, ``(n, d)``, by the nearest row of the gallery, ``(m, d)``."""
    found = nearest(rows, vectors, k=1)
    answers = zip(names, found.rows[:, 0], found.similarities[:, 0], strict=True)
    return [Prediction(name, landmarks[row], float(cosine)) for name, row, cosine in answers]
