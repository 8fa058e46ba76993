"""A page for people: the pictures that denoising dropped, beside one that fits their landmark."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedder.artifacts.files import write_atomic
from embedder.reports.page import figure, page, side_by_side, table, text

if TYPE_CHECKING:
    from trainer.evaluation.denoise import Judged

LANDMARKS = 40
"""Landmarks that are shown: those that lost most pictures."""

PICTURES = 12
"""Dropped pictures that are shown of each: the farthest ones."""

_COUNTS = ("pictures", "kept", "dropped", "unreadable", "landmarks", "max_angle")
_TRUTHS = ("wrong", "dropped_wrong", "precision", "recall")


def write_page(path: Path, report: Mapping[str, Any], judged: Sequence[Judged]) -> None:
    """Write the page.

    Args:
        path: The file to write.
        report: What :func:`trainer.evaluation.denoise.denoise` found.
        judged: Every training picture that could be read.
    """
    write_atomic(path, page("Dropped pictures", _body(report, judged)))


def _body(report: Mapping[str, Any], judged: Sequence[Judged]) -> Iterator[str]:
    yield table([{key: report[key] for key in _COUNTS}])
    if report["emptied"]:
        yield f"<p>No picture is left of {text(', '.join(report['emptied']))}.</p>"
    if "wrong" in report:
        yield "<h2>Beside the true labels</h2>" + table([{key: report[key] for key in _TRUTHS}])
    yield "<h2>Pictures by their angle, in degrees</h2>"
    yield table([{angles: count for angles, count in report["angles"].items() if count}])
    groups: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        groups[str(one.photograph.landmark_id)].append(one)
    losses = {mark: sum(not one.kept for one in group) for mark, group in groups.items()}
    losing = sorted((mark for mark in groups if losses[mark]), key=lambda mark: -losses[mark])
    yield (
        f"<h2>{min(len(losing), LANDMARKS)} of {len(losing)} landmarks that lost pictures</h2>"
        "<p>Each row begins with the picture that fits its landmark best; then come the dropped "
        "ones, the farthest first. Green ones are known to be labeled wrong.</p>"
    )
    for mark in losing[:LANDMARKS]:
        yield f"<p><b>{text(mark)}</b>: {losses[mark]} of {len(groups[mark])} dropped</p>"
        yield side_by_side(_row(groups[mark]))


def _row(group: Sequence[Judged]) -> Iterator[str]:
    """Show the best picture of a landmark and the worst of the dropped ones."""
    ordered = sorted(group, key=lambda one: one.angle_degrees)
    yield _figure(ordered[0])
    yield from map(_figure, [one for one in reversed(ordered) if not one.kept][:PICTURES])


def _figure(one: Judged) -> str:
    truth = f", truly {text(str(one.truth))}" if one.wrong else ""
    told = f"{one.angle_degrees:.1f}°{truth}<br>"
    told += f"<span class=soft>{text(one.photograph.id)}</span>"
    return figure(one.photograph.path, told, right=one.wrong and not one.kept)
