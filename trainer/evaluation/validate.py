"""Score a network by top1: the nearest picture answers, as galleries do by default."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from embedder.manifest import Preprocess
from index.evaluation.metrics import Prediction, auroc, gap
from index.search.faiss_search import nearest
from photographs import Photograph
from trainer.evaluation.embed import embed_photographs


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
    network: nn.Module,
    gallery: Sequence[Photograph],
    queries: Sequence[Photograph],
    preprocess: Preprocess,
    *,
    distractors: Sequence[Photograph] = (),
    bf16: bool,
) -> Metrics:
    """Score answers to queries, each given by the nearest picture of the gallery.

    Args:
        network: In evaluation mode.
        gallery: The pictures that are searched.
        queries: Pictures of the same landmarks, not in the gallery.
        preprocess: How all are prepared.
        distractors: Pictures of no landmark: queries too, to which any answer is wrong.
        bf16: Compute in bfloat16.

    Returns:
        The metrics of all answers together; a picture that cannot be read has none.
    """
    if not queries:
        return Metrics(-1.0, None)
    searched, rows = embed_photographs(network, gallery, preprocess, bf16=bf16)
    known, vectors = embed_photographs(network, queries, preprocess, bf16=bf16)
    if not searched or not known:
        return Metrics(-1.0, None)
    landmarks = [str(photograph.landmark_id) for photograph in searched]
    truths = {query.id: [str(query.landmark_id)] for query in queries}
    answers = _answer([query.id for query in known], landmarks, rows, vectors)
    unknown, vectors = embed_photographs(network, distractors, preprocess, bf16=bf16)
    if unknown:
        names = [f"distractor {number}" for number in range(len(unknown))]
        answers += _answer(names, landmarks, rows, vectors)
        truths |= {name: [] for name in names}
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
