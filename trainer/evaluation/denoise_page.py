"""A page with the pictures that denoising dropped, beside one that fits their landmark."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedder.artifacts.files import write_atomic
from embedder.reports.page import figure, page, side_by_side, table, text
from photographs import Photograph

LANDMARKS = 40
"""Landmarks that are shown: those with the most dropped pictures."""

PICTURES = 12
"""Dropped pictures that are shown of each: the farthest ones."""

_COUNTS = ("pictures", "kept", "dropped", "unreadable", "landmarks", "max_angle")
_TRUTHS = ("wrong", "dropped_wrong", "precision", "recall")


@dataclass(frozen=True)
class CheckedPicture:
    """A training picture and how far it lies from its landmark.

    Attributes:
        photograph: With the landmark of its label.
        angle_degrees: To the dominant sub-center of that landmark, in [0, 180].
        kept: Whether it stays in the list.
        truth: The landmark it really shows; None if unknown.
    """

    photograph: Photograph
    angle_degrees: float
    kept: bool
    truth: str | None

    @property
    def wrong(self) -> bool:
        """Whether its label is known to be wrong."""
        return self.truth is not None and self.truth != self.photograph.landmark_id


def write_page(path: Path, report: Mapping[str, Any], checked: Sequence[CheckedPicture]) -> None:
    """Write the page of a denoising report about every picture that could be read."""
    write_atomic(path, page("Dropped pictures", _body(report, checked)))


def _body(report: Mapping[str, Any], checked: Sequence[CheckedPicture]) -> Iterator[str]:
    yield table([{key: report[key] for key in _COUNTS}])
    if report["emptied"]:
        yield f"<p>No picture is left of landmarks {text(', '.join(report['emptied']))}.</p>"
    if "wrong" in report:
        yield "<h2>Compared with the true labels</h2>" + table(
            [{key: report[key] for key in _TRUTHS}]
        )
    yield "<h2>Pictures by their angle, in degrees</h2>"
    yield table([{angles: count for angles, count in report["angles"].items() if count}])
    groups: dict[str, list[CheckedPicture]] = defaultdict(list)
    for one in checked:
        groups[str(one.photograph.landmark_id)].append(one)
    dropped = {mark: sum(not one.kept for one in group) for mark, group in groups.items()}
    shown = sorted((mark for mark in groups if dropped[mark]), key=lambda mark: -dropped[mark])
    yield (
        f"<h2>{min(len(shown), LANDMARKS)} of {len(shown)} landmarks with dropped pictures</h2>"
        "<p>Each row begins with the picture that fits its landmark best; then come the dropped "
        "ones, the farthest first. Green ones are known to have a wrong label.</p>"
    )
    for mark in shown[:LANDMARKS]:
        yield f"<p><b>{text(mark)}</b>: {dropped[mark]} of {len(groups[mark])} dropped</p>"
        yield side_by_side(_row(groups[mark]))


def _row(group: Sequence[CheckedPicture]) -> Iterator[str]:
    """Show the nearest picture of a landmark and the farthest of the dropped ones."""
    ordered = sorted(group, key=lambda one: one.angle_degrees)
    yield _figure(ordered[0])
    yield from map(_figure, [one for one in reversed(ordered) if not one.kept][:PICTURES])


def _figure(one: CheckedPicture) -> str:
    truth = f", truly {text(str(one.truth))}" if one.wrong else ""
    caption = f"{one.angle_degrees:.1f}°{truth}<br>"
    caption += f"<span class=soft>{text(one.photograph.id)}</span>"
    return figure(one.photograph.path, caption, right=one.wrong and not one.kept)
