"""A page for people about a run: curves, figures, and the surest mistakes with their pictures.

It holds no times and no folders, so that equal runs write equal pages.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from embedder.artifacts.files import write_atomic
from embedder.reports.chart import Point, line_chart
from embedder.reports.page import figure, number, page, side_by_side, table, text
from trainer.evaluation.rule_ladder import CLASS_SIZES, Judged
from trainer.recipe import Recipe, StageRecipe
from trainer.training.schedule import rate_factor

MISTAKES = 12
"""How many wrong answers are shown: the surest ones."""

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
    path: Path, recipe: Recipe, report: Mapping[str, Any], judged: Judged | None
) -> None:
    """Write the page.

    Args:
        path: The file.
        recipe: Of the run.
        report: As in ``report.json``.
        judged: Answers to the pictures kept back, if any were.
    """
    write_atomic(path, page(f"Run {recipe.name}", _body(recipe, report, judged)))


def _body(recipe: Recipe, report: Mapping[str, Any], judged: Judged | None) -> Iterator[str]:
    yield _STYLE
    yield (
        f"<p>{report['pictures']} pictures of {report['landmarks']} landmarks to learn from, "
        f"{report['kept_back']} kept back, {report['unreadable']} unreadable. "
        f"{text(recipe.network.backbone)}, {text(recipe.head.kind)}; computed on "
        f"{text(report['device'])} in {text(report['precision'])}.</p>"
    )
    if "test_gap" in report:
        yield (
            f"<p>GAP {number(report['test_gap'])} by top1 on {report['tested']} pictures that "
            "nothing was chosen by.</p>"
        )
    yield "<h2>Epochs</h2>"
    yield f"<div class=charts>{''.join(_charts(recipe, report['epochs']))}</div>"
    if judged is None:
        yield "<p>No pictures were kept back to judge by.</p>"
        return
    yield "<h2>Rules</h2><p>The same queries, the pictures kept back, answered by each rule.</p>"
    yield table(judged.ladder)
    yield "<h2>By the number of pictures of a landmark</h2>" + table(_in_words(judged.class_sizes))
    known = [query for query in judged.queries if query.landmark_id]
    wrong, strangers = _wrong(judged)
    yield f"<h2>Confusions</h2><p>{len(wrong)} of {len(known)} queries.</p>"
    if wrong:
        yield table(_pairs(judged, wrong))
        yield "<p>The surest: the query first, then its nearest pictures; green is right.</p>"
    yield from (_mistake(judged, place) for place in wrong[:MISTAKES])
    if strangers:
        yield "<h2>Pictures of no landmark</h2><p>Those that were answered most surely.</p>"
    yield from (_mistake(judged, place) for place in strangers[:MISTAKES])


def _charts(recipe: Recipe, epochs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Draw what was written down after each epoch, and the rates that were planned."""
    lengths = [stage.last_epoch for stage in recipe.stages]
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    ended = [starts[entry["stage"]] + entry["epoch"] + 1 for entry in epochs]
    breaks = starts[1:]
    for name, title in (("loss", "Loss"), ("validation_gap", "Validation GAP")):
        values = [(end, entry[name]) for end, entry in zip(ended, epochs, strict=True)]
        yield line_chart(title, values, breaks=breaks, from_zero=name == "loss")
    stages = list(zip(starts, recipe.stages, strict=True))
    for title, rate in (("Learning rate, backbone", "lr"), ("Learning rate, head", "head_lr")):
        planned = [point for start, stage in stages for point in _rates(start, stage, rate)]
        yield line_chart(title, planned, breaks=breaks, from_zero=True)


def _rates(start: int, stage: StageRecipe, rate: str) -> Iterator[Point]:
    """Sample a stage's learning rate; a frozen backbone learns nothing."""
    for tick in range(stage.last_epoch * _RATES_PER_EPOCH + 1):
        done = tick / _RATES_PER_EPOCH
        frozen = rate == "lr" and done < stage.frozen_epochs
        factor = 0.0 if frozen else rate_factor(stage, min(done, stage.last_epoch - 1e-6))
        yield start + done, getattr(stage, rate) * factor


def _in_words(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Write the sizes of each group out: from, and up to the next possible one."""
    ends = dict(itertools.pairwise(CLASS_SIZES))
    shown = {
        least: f"{least} to {ends[least] - 1}" if least in ends else f"{least} and more"
        for least in CLASS_SIZES
    }
    return [{**group, "pictures": shown[group["pictures"]]} for group in groups]


def _wrong(judged: Judged) -> tuple[list[int], list[int]]:
    """Find the wrong answers, surest first: those to queries, and those to no landmark."""
    surest = sorted(range(len(judged.answers)), key=lambda n: -judged.answers[n].confidence)
    pairs = [(place, judged.queries[place].landmark_id) for place in surest]
    wrong = [place for place, truth in pairs if truth not in {None, _said(judged, place)}]
    return wrong, [place for place, truth in pairs if truth is None]


def _said(judged: Judged, place: int) -> str:
    return judged.answers[place].landmark_id


def _pairs(judged: Judged, wrong: Sequence[int]) -> list[dict[str, object]]:
    """Count which landmark was taken for which."""
    counted = Counter(
        (str(judged.queries[place].landmark_id), _said(judged, place)) for place in wrong
    )
    return [
        {"landmark": truth, "answered": said, "queries": number}
        for (truth, said), number in counted.most_common(_PAIRS)
    ]


def _mistake(judged: Judged, place: int) -> str:
    query, answer = judged.queries[place], judged.answers[place]
    told = (
        f"<b>{text(query.landmark_id or 'no landmark')}</b><br>said: {text(answer.landmark_id)}, "
        f"{answer.confidence:.3f}<br><span class=soft>{text(query.id)}</span>"
    )
    cells = [figure(query.path, told)]
    found = judged.neighbors
    for row, similarity in zip(found.rows[place], found.similarities[place], strict=True):
        known = judged.gallery[int(row)]
        caption = (
            f"{text(str(known.landmark_id))}<br>{similarity:.3f} "
            f"<span class=soft>{text(known.id)}</span>"
        )
        cells.append(figure(known.path, caption, right=known.landmark_id == query.landmark_id))
    return side_by_side(cells[: 1 + _NEIGHBORS])
