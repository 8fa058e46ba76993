"""Do distractors and calibration help, and does a threshold keep its promise?

The labeled queries are cut into two random halves, many times. On one half the strength of the
query's penalty, the curve and the threshold are learned; the other half is judged: GAP against
plain top-1 on the same half, and the precision of the answers above the threshold. The queries
are never distractors.

    python benchmarks/judgement.py --embedder DIR --store DIR --data DIR

The store needs a gallery that was built with ``--distractors``: a folder, or ``gallery``. Ends with
one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from embedder.embedder import Embedder
from index.evaluation.calibrate import LabeledAnswers, fit_calibration, label_answers
from index.evaluation.evaluate import evaluate
from index.evaluation.metrics import Prediction, gap
from index.evaluation.queries import AnsweredQueries
from index.gallery.gallery import Gallery
from index.gallery.recognize import recognize_by
from index.ranking.ranking import Ranking
from photographs import Query, open_data

Halving = dict[str, float]


def main() -> None:
    """Measure, tell, and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    for name in ("--embedder", "--store", "--data"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--halvings", type=int, default=100)
    parser.add_argument("--precision-target", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with (
        closing(Embedder.load(asked.embedder)) as embedder,
        closing(Gallery.open(asked.store, embedder_digest=embedder.digest)) as gallery,
    ):
        figures, judged = evaluate(gallery, embedder, open_data(asked.data))
        answers = label_answers(
            gallery, judged.vectors, [query.landmark_ids for query in judged.queries]
        )
        plain, ranking = _plain(gallery, judged), gallery.manifest.ranking
    for rung in figures.ladder:
        figures_of_rung = f"GAP {rung.gap:.4f}  top-1 {rung.top1:.4f}  AUROC {rung.auroc:.4f}"
        print(f"{rung.ranking:12} {figures_of_rung}")
    rng = np.random.default_rng(asked.seed)
    halvings = []
    for _ in range(asked.halvings):
        shuffled = rng.permutation(len(answers))
        one, other = np.array_split(shuffled, 2)
        for taught, asked_half in ((one, other), (other, one)):
            halves = (taught, asked_half)
            halvings.append(
                _judge(answers, plain, judged.queries, halves, ranking, asked.precision_target)
            )
    print(json.dumps(_summary(halvings, asked.precision_target)))


def _plain(gallery: Gallery, judged: AnsweredQueries) -> LabeledAnswers:
    """Answer by the nearest picture alone, whatever the gallery's ranking is."""
    answers = recognize_by(Ranking(), gallery, judged.vectors)
    named = [gallery.catalog.landmark_id(answer.landmark) for answer in answers]
    pairs = zip(named, judged.queries, strict=True)
    return LabeledAnswers(
        np.array([answer.confidence for answer in answers]),
        np.zeros(len(answers)),
        np.array([name in query.landmark_ids for name, query in pairs]),
        sum(not query.landmark_ids for query in judged.queries),
    )


def _judge(
    answers: LabeledAnswers,
    plain: LabeledAnswers,
    queries: Sequence[Query],
    halves: tuple[np.ndarray, np.ndarray],
    ranking: Ranking,
    target: float,
) -> Halving:
    """Learn on the first of two halves, and judge the second."""
    taught, asked = (_part(answers, queries, half) for half in halves)
    nearest = _part(plain, queries, halves[1])
    learned, calibration = fit_calibration(taught, ranking, target, data="half", build_id="half")
    confidences = asked.scores - learned.query_penalty * asked.penalties
    believed = asked.right[confidences >= calibration.threshold]
    own = [queries[place] for place in halves[1]]
    return {
        "gap_top1": _gap(own, nearest, nearest.scores),
        "gap_calibrated": _gap(own, asked, confidences),
        "precision": float(believed.mean()),
        "answered": len(believed) / len(asked),
        "query_penalty": learned.query_penalty,
    }


def _part(answers: LabeledAnswers, queries: Sequence[Query], half: np.ndarray) -> LabeledAnswers:
    unknown = sum(not queries[place].landmark_ids for place in half)
    return LabeledAnswers(
        answers.scores[half], answers.penalties[half], answers.right[half], unknown
    )


def _gap(queries: Sequence[Query], answers: LabeledAnswers, confidences: np.ndarray) -> float:
    """Score the answers; of which landmark an answer is does not matter, only if it is right."""
    rows = zip(queries, answers.right, confidences, strict=True)
    predictions = [
        Prediction(q.id, "right" if right else "wrong", float(c)) for q, right, c in rows
    ]
    return gap(predictions, {q.id: ["right"] if q.landmark_ids else [] for q in queries})


def _summary(halvings: Sequence[Halving], target: float) -> dict[str, float]:
    columns = {name: np.array([halving[name] for halving in halvings]) for name in halvings[0]}
    gains = columns["gap_calibrated"] - columns["gap_top1"]
    precision = columns["precision"]
    return {
        "halves": len(halvings),
        "gap_top1": round(float(columns["gap_top1"].mean()), 5),
        "gap_calibrated": round(float(columns["gap_calibrated"].mean()), 5),
        "gap_gain_mean": round(float(gains.mean()), 5),
        "gap_gain_worst": round(float(gains.min()), 5),
        "gap_better_share": round(float((gains > 0).mean()), 3),
        "query_penalty_median": round(float(np.median(columns["query_penalty"])), 3),
        "precision_target": target,
        "precision_median": round(float(np.median(precision)), 4),
        "precision_worst": round(float(precision.min()), 4),
        "precision_kept_share": round(float((precision >= target - 0.02).mean()), 3),
        "answered_mean": round(float(columns["answered"].mean()), 3),
    }


if __name__ == "__main__":
    main()
