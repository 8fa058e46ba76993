"""A page for people: what a check found, in pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from embedder.artifacts.files import write_atomic
from embedder.reports.page import figure, page, side_by_side, table, text
from index.review.findings import (
    NEAR_IDENTICAL,
    OUTLIER,
    SAME_CONTENT,
    Findings,
    PictureOf,
    Suspect,
)

SHOWN = 48
"""Suspects of each reason that are shown."""

_NAMED = 200
_TITLES = {
    SAME_CONTENT: "The same file under two landmarks",
    NEAR_IDENTICAL: "Nearly the same picture under two landmarks",
    OUTLIER: "Pictures unlike their landmark",
}


def write_check_page(path: Path, findings: Findings) -> None:
    """Write the page to a file, whose folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page(f"Check of {findings.title}", _body(findings)))


def _body(findings: Findings) -> Iterator[str]:
    yield f"<p>{findings.pictures} pictures of {findings.landmarks} landmarks.</p>"
    yield "<p>Of each pair the first picture is on the list to be removed.</p>"
    for reason, title in _TITLES.items():
        suspects = [one for one in findings.suspects if one.reason == reason]
        if suspects:
            yield f"<h2>{text(title)}: {len(suspects)}</h2>"
            surest = sorted(suspects, key=lambda one: -one.similarity)[:SHOWN]
            yield from map(_pair, surest)
    if findings.single:
        yield f"<h2>Landmarks with one picture: {len(findings.single)}</h2>"
        yield _names([name for _, name in findings.single])
    if findings.passed_over:
        yield "<h2>Files that are passed over</h2>"
        yield table([{"kind": kind, "files": n} for kind, n in findings.passed_over.items()])
    if findings.missing:
        yield f"<h2>Landmarks without a picture that is read: {len(findings.missing)}</h2>"
        yield _names(list(findings.missing))


def _names(names: list[str]) -> str:
    return f"<p>{', '.join(map(text, names[:_NAMED]))}{', …' if len(names) > _NAMED else ''}</p>"


def _pair(suspect: Suspect) -> str:
    first = _figure(suspect.picture, f"{suspect.similarity:.3f}")
    return side_by_side([first, _figure(suspect.other, "")])


def _figure(picture: PictureOf, remark: str) -> str:
    soft = f"<span class=soft>{text(picture.id)}</span>"
    return figure(picture.file, f"<b>{text(picture.name)}</b><br>{text(remark)} {soft}")
