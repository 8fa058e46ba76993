"""A page about a run: curves, metrics, and the mistakes of highest confidence with their pictures.

It holds no times and no folders, so that equal runs write equal pages.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from embedder.artifacts.files import write_atomic
from embedder.reports.chart import Point, line_chart
from embedder.reports.page import figure, number, page, side_by_side, table, text
from trainer.evaluation.rule_ladder import CLASS_SIZES, RuleLadder
from trainer.recipe import Recipe, StageRecipe
from trainer.recipe.stage import rate_factor

MISTAKES = 12
"""How many wrong answers are shown: those of highest confidence."""

_NEIGHBORS = 4
_PAIRS = 12
_RATES_PER_EPOCH = 16

_STYLE = """<style>
.charts { display: grid; gap: 1.5rem 3rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)) }
svg { width: 100%; font: 11px system-ui, sans-serif; fill: currentColor }
svg .name { font-size: 13px; font-weight: 600 } svg .left { text-anchor: end }
svg .below { text-anchor: middle } svg .grid { stroke: var(--line); fill: none }
svg .line { stroke: #2a7f9d; stroke-width: 2; fill: none } svg .dot { fill: #2a7f9d }
</style>"""


def write_report(
    path: Path, recipe: Recipe, report: Mapping[str, Any], ladder: RuleLadder | None
) -> None:
    """Write the page of a run from its ``report.json`` and the answers to validation pictures."""
    write_atomic(path, page(f"Run {recipe.name}", _body(recipe, report, ladder)))


def _body(recipe: Recipe, report: Mapping[str, Any], ladder: RuleLadder | None) -> Iterator[str]:
    yield _STYLE
    yield (
        f"<p>{report['pictures']} training pictures of {report['landmarks']} landmarks, "
        f"{report['kept_back']} validation pictures, {report['unreadable']} unreadable. "
        f"{text(recipe.network.backbone)}, {text(recipe.head.kind)}; computed on "
        f"{text(report['device'])} in {text(report['precision'])}.</p>"
    )
    if "test_gap" in report:
        yield (
            f"<p>GAP {number(report['test_gap'])} by top1 on {report['tested']} test "
            "pictures, which no choice was made by.</p>"
        )
    yield "<h2>Epochs</h2>"
    yield f"<div class=charts>{''.join(_charts(recipe, report['epochs']))}</div>"
    if ladder is None:
        yield "<p>There are no validation pictures.</p>"
        return
    yield "<h2>Rules</h2><p>The validation pictures, answered by each rule.</p>"
    yield table(ladder.rungs)
    yield "<h2>By the number of training pictures of a landmark</h2>"
    yield table(_size_ranges(ladder.class_sizes))
    known = [query for query in ladder.queries if query.landmark_ids]
    wrong, distractors = _wrong_answers(ladder)
    yield f"<h2>Confusions</h2><p>{len(wrong)} of {len(known)} queries.</p>"
    if wrong:
        yield table(_pairs(ladder, wrong))
        yield "<p>Of highest confidence: the query, then its nearest pictures; green is right.</p>"
    yield from (_mistake(ladder, place) for place in wrong[:MISTAKES])
    if distractors:
        yield "<h2>Pictures of no landmark</h2><p>The answers of highest confidence.</p>"
    yield from (_mistake(ladder, place) for place in distractors[:MISTAKES])


def _charts(recipe: Recipe, epochs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Draw the metrics of each epoch, and the planned learning rates."""
    starts = [0, *itertools.accumulate(stage.last_epoch for stage in recipe.stages)][:-1]
    breaks = starts[1:]
    entries = [(starts[entry["stage"]], entry) for entry in epochs]
    losses = [(start + entry["epoch"] + 1, entry["loss"]) for start, entry in entries]
    yield line_chart("Loss", losses, breaks=breaks, from_zero=True)
    scores = [score for start, entry in entries for score in _scores(start, entry)]
    yield line_chart("Validation GAP", scores, breaks=breaks)
    stages = list(zip(starts, recipe.stages, strict=True))
    for title, rate in (("Learning rate, backbone", "lr"), ("Learning rate, head", "head_lr")):
        planned = [point for start, stage in stages for point in _rates(start, stage, rate)]
        yield line_chart(title, planned, breaks=breaks, from_zero=True)


def _scores(start: int, epoch: Mapping[str, Any]) -> Iterator[Point]:
    """Yield the scores within an epoch of a stage and that at its end, if there are any."""
    for scores in epoch.get("validations", ()):
        yield start + scores["epochs"], scores["validation_gap"]
    if "validation_gap" in epoch:
        yield start + epoch["epoch"] + 1, epoch["validation_gap"]


def _rates(start: int, stage: StageRecipe, rate: str) -> Iterator[Point]:
    """Sample a learning rate of a stage; that of a frozen backbone is 0."""
    for tick in range(stage.last_epoch * _RATES_PER_EPOCH + 1):
        done = tick / _RATES_PER_EPOCH
        frozen = rate == "lr" and done < stage.frozen_epochs
        factor = 0.0 if frozen else rate_factor(stage, min(done, stage.last_epoch - 1e-6))
        yield start + done, getattr(stage, rate) * factor


def _size_ranges(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Replace the smallest size of each group by its range in words."""
    shown = {least: f"{least} to {end - 1}" for least, end in itertools.pairwise(CLASS_SIZES)}
    shown[CLASS_SIZES[-1]] = f"{CLASS_SIZES[-1]} and more"
    return [{**group, "pictures": shown[group["pictures"]]} for group in groups]


def _wrong_answers(ladder: RuleLadder) -> tuple[list[int], list[int]]:
    """Find wrong answers, highest confidence first: to landmarks' queries, and to distractors."""
    answers, truths = ladder.answers, [query.landmark_ids for query in ladder.queries]
    order = sorted(range(len(answers)), key=lambda n: -answers[n].confidence)
    wrong = [n for n in order if truths[n] and answers[n].landmark_id not in truths[n]]
    return wrong, [n for n in order if not truths[n]]


def _pairs(ladder: RuleLadder, wrong: Sequence[int]) -> list[dict[str, object]]:
    """Count which landmark was confused with which."""
    counted = Counter(
        (" ".join(ladder.queries[place].landmark_ids), ladder.answers[place].landmark_id)
        for place in wrong
    )
    return [
        {"landmark": truth, "answered": answer, "queries": number}
        for (truth, answer), number in counted.most_common(_PAIRS)
    ]


def _mistake(ladder: RuleLadder, place: int) -> str:
    query, answer = ladder.queries[place], ladder.answers[place]
    truth = " ".join(query.landmark_ids) or "no landmark"
    caption = (
        f"<b>{text(truth)}</b><br>answer: {text(answer.landmark_id)}, "
        f"{answer.confidence:.3f}<br><span class=soft>{text(query.id)}</span>"
    )
    cells = [figure(query.path, caption)]
    found = ladder.neighbors
    for row, similarity in zip(found.rows[place], found.similarities[place], strict=True):
        known = ladder.gallery[int(row)]
        neighbor = (
            f"{text(str(known.landmark_id))}<br>{similarity:.3f} "
            f"<span class=soft>{text(known.id)}</span>"
        )
        cells.append(figure(known.path, neighbor, right=known.landmark_id in query.landmark_ids))
    return side_by_side(cells[: 1 + _NEIGHBORS])
