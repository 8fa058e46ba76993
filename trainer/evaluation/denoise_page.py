"""A page with the pictures that denoising dropped, beside one that fits their landmark."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.files import write_atomic
from embedder.reports.page import figure, page, side_by_side, table, text
from photographs import PhotographList

LANDMARKS = 40
"""Landmarks that are shown: those with the most dropped pictures."""

PICTURES = 12
"""Dropped pictures that are shown of each: the farthest ones."""

_COUNTS = ("pictures", "kept", "dropped", "unreadable", "landmarks", "max_angle")
_TRUTHS = ("wrong", "dropped_wrong", "precision", "recall")


@dataclass(frozen=True, slots=True, eq=False)
class CheckedPictures:
    """Training pictures and how far each lies from its landmark.

    Attributes:
        photographs: ``n``, with the landmarks of their labels.
        angles: ``(n,)`` degrees in [0, 180], to the dominant sub-center of that landmark.
        kept: ``(n,)``, whether each stays in the list.
        truths: By picture id, the landmark it really shows, where that is known.
    """

    photographs: PhotographList
    angles: NDArray[np.float64]
    kept: NDArray[np.bool_]
    truths: Mapping[str, str | None]

    def truth(self, place: int) -> str | None:
        """Return the landmark that a picture really shows; ``None`` if unknown."""
        return self.truths.get(self.photographs[place].id)

    def judged(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell of each picture whether its truth is known, and whether its label is wrong."""
        pairs = self.photographs.labeled_ids()
        right = ((self.truths.get(picture_id), label) for picture_id, label in pairs)
        told = np.array([(t is not None, t not in (None, label)) for t, label in right], bool)
        known, wrong = told.reshape(-1, 2).T
        return known, wrong


def write_page(path: Path, report: Mapping[str, Any], checked: CheckedPictures) -> None:
    """Write the page of a denoising report about every picture that could be read."""
    write_atomic(path, page("Dropped pictures", _body(report, checked)))


def _body(report: Mapping[str, Any], checked: CheckedPictures) -> Iterator[str]:
    yield table([{key: report[key] for key in _COUNTS}])
    if report["emptied"]:
        yield f"<p>No picture is left of landmarks {text(', '.join(report['emptied']))}.</p>"
    if "wrong" in report:
        yield "<h2>Compared with the true labels</h2>" + table(
            [{key: report[key] for key in _TRUTHS}]
        )
    yield "<h2>Pictures by their angle, in degrees</h2>"
    yield table([{angles: count for angles, count in report["angles"].items() if count}])
    landmarks, labels = checked.photographs.landmarks, checked.photographs.labels
    dropped = np.bincount(labels[~checked.kept], minlength=len(landmarks))
    shown = np.argsort(-dropped, kind="stable")[: np.count_nonzero(dropped)].tolist()
    yield (
        f"<h2>{min(len(shown), LANDMARKS)} of {len(shown)} landmarks with dropped pictures</h2>"
        "<p>Each row begins with the picture that fits its landmark best; then come the dropped "
        "ones, the farthest first. Green ones are known to have a wrong label.</p>"
    )
    for label in shown[:LANDMARKS]:
        own = np.flatnonzero(labels == label)
        yield f"<p><b>{text(landmarks[label])}</b>: {dropped[label]} of {len(own)} dropped</p>"
        yield side_by_side(_row(checked, own))


def _row(checked: CheckedPictures, own: NDArray[np.int64]) -> Iterator[str]:
    """Show the nearest picture of a landmark and the farthest of the dropped ones."""
    ordered = own[np.argsort(checked.angles[own], kind="stable")]
    far = ordered[::-1][~checked.kept[ordered[::-1]]][:PICTURES]
    for place in (int(ordered[0]), *far.tolist()):
        yield _figure(checked, place)


def _figure(checked: CheckedPictures, place: int) -> str:
    picture, truth = checked.photographs[place], checked.truth(place)
    wrong = truth not in (None, picture.landmark_id)
    told = f", truly {text(str(truth))}" if wrong else ""
    caption = f"{checked.angles[place]:.1f}°{told}<br><span class=soft>{text(picture.id)}</span>"
    return figure(picture.path, caption, right=wrong and not checked.kept[place])
