"""Do distractors and calibration help, and does a threshold keep its promise?

The labeled queries are cut into two random halves, many times. What is learned from one half, a
probability from several signals and a threshold among it, is judged by the other: its GAP and
AUROC beside those of the nearest picture, of a vote, and of the calibrated confidence, all on the
same vectors; and the precision of the answers above the threshold. The queries are never
distractors.

    python benchmarks/judgement.py --embedder DIR --store DIR --data DIR

The landmarks are those of the gallery's own ranking: build it with ``--ranking vote`` to compare
confidences with that of a vote. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.embedder import Embedder
from index.evaluation.evaluate import evaluate
from index.evaluation.fit import (
    LabeledAnswers,
    fit_curve,
    fit_learned,
    judge_learned,
    label_answers,
)
from index.evaluation.halves import HALVINGS, halve
from index.evaluation.metrics import auroc
from index.evaluation.queries import Answers, answer_by_each
from index.evaluation.truths import Truths
from index.gallery.gallery import Gallery
from index.ranking.ranking import Ranking
from photographs import open_data

Figures = dict[str, float]

PLAIN = {"top1": Ranking(), "vote": Ranking(rule="vote")}
"""What a calibration is compared with."""

_NO_GAINS = np.zeros(1)  # only a record in what is learned


def main() -> None:
    """Measure, tell, and print the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("--embedder", "--store", "--data"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--halvings", type=int, default=HALVINGS)
    parser.add_argument("--precision-target", type=float, default=0.95)
    asked = parser.parse_args()
    with (
        closing(Embedder.load(asked.embedder)) as embedder,
        closing(Gallery.open(asked.store, embedder_digest=embedder.digest)) as gallery,
    ):
        found = judge_gallery(gallery, embedder, asked.data, asked.precision_target, asked.halvings)
    print(json.dumps(found))


def judge_gallery(
    gallery: Gallery, embedder: Embedder, data: Path, target: float, halvings: int = HALVINGS
) -> Figures:
    """Print the ladder of rankings, and judge as :func:`judge` by all labeled queries."""
    figures, judged = evaluate(gallery, embedder, open_data(data))
    for rung in figures.ladder:
        print(
            f"{rung.ranking:16} GAP {rung.gap:.4f}  top-1 {rung.top1:.4f}  AUROC {rung.auroc:.4f}"
        )
    truths = Truths.of_queries(judged.queries, gallery.catalog)
    return judge(gallery, judged.vectors, truths, target, halvings)


def judge(
    gallery: Gallery,
    vectors: NDArray[np.float32],
    truths: Truths,
    target: float,
    halvings: int = HALVINGS,
) -> Figures:
    """Judge what is learned from each of many halves of ``(n, d)`` queries by the other half.

    Returns:
        Means over the halves, and in how many of them a calibration sees signals do better.
    """
    own = label_answers(gallery, vectors, truths)
    _, *given = answer_by_each(gallery, [*PLAIN.values()], vectors)
    plain = {name: _label(one, truths) for name, one in zip(PLAIN, given, strict=True)}
    halves = []
    for taught, asked in halve(len(own), halvings):
        figures = _judge(own.take(taught), own.take(asked), target)
        for name, answers in plain.items():
            part = answers.take(asked)
            figures |= _metrics(name, part, part.scores)
        halves.append(figures)
    better = float((judge_learned(own) > 0).mean())
    return _summary(halves, target) | {"learned_calibrate_better_share": better}


def _label(answers: Answers, truths: Truths) -> LabeledAnswers:
    right = truths.shows(answers.landmarks)
    return LabeledAnswers(answers.confidences, np.zeros((len(right), 0)), right, truths.known)


def _judge(taught: LabeledAnswers, asked: LabeledAnswers, target: float) -> Figures:
    """Learn from one half, and judge the other."""
    strength, calibration = fit_curve(taught, target, data="half", build_id="half")
    learned = fit_learned(taught, target, _NO_GAINS)
    if learned is None:
        raise SystemExit(f"no threshold makes {target:.0%} of the answers right")
    probabilities = np.array([learned.probability(signals) for signals in asked.signals])
    ways = {"calibrated": asked.scores - strength * asked.penalties, "learned": probabilities}
    above = {
        "calibrated": ways["calibrated"] >= calibration.threshold,
        "learned": probabilities >= learned.threshold,
    }
    figures: Figures = {"query_penalty": strength}
    for name, scores in ways.items():
        figures |= _metrics(name, asked, scores)
        figures[f"precision_{name}"] = float(asked.right[above[name]].mean())
        figures[f"answered_{name}"] = float(above[name].mean())
    return figures


def _metrics(name: str, answers: LabeledAnswers, scores: NDArray[np.float64]) -> Figures:
    known = answers.known
    return {
        f"gap_{name}": answers.gap(scores),
        f"auroc_{name}": auroc(scores[known], scores[~known]),
    }


def _summary(halves: list[Figures], target: float) -> Figures:
    columns = {name: np.array([half[name] for half in halves]) for name in halves[0]}
    found: Figures = {"halves": len(halves), "precision_target": target}
    found |= {name: round(float(column.mean()), 5) for name, column in columns.items()}
    for way, before in (("calibrated", "top1"), ("learned", "vote")):
        gains = columns[f"gap_{way}"] - columns[f"gap_{before}"]
        found[f"{way}_gap_gain"] = round(float(gains.mean()), 5)
        found[f"{way}_gap_gain_worst"] = round(float(gains.min()), 5)
        found[f"{way}_gap_better_share"] = round(float((gains > 0).mean()), 3)
        aurocs = columns[f"auroc_{way}"] - columns[f"auroc_{before}"]
        found[f"{way}_auroc_gain"] = round(float(aurocs.mean()), 5)
        kept = columns[f"precision_{way}"] >= target - 0.02
        found[f"{way}_precision_kept_share"] = round(float(kept.mean()), 3)
    return found


if __name__ == "__main__":
    main()
