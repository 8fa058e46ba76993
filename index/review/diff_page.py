"""A page for people: how two builds differ, in pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.files import write_atomic
from embedder.reports.page import figure, page, side_by_side, table, text
from index.evaluation.report import gallery_figure
from index.gallery.gallery import Gallery
from index.review.compare import AnswerChanges, PictureChanges

SHOWN = 24
"""Pictures, and changed answers of each kind, that are shown."""

_NAMED = 100
_Galleries = tuple[Gallery, Gallery]


def write_diff_page(
    path: Path,
    galleries: _Galleries,
    pictures: PictureChanges,
    answers: AnswerChanges | None,
) -> None:
    """Write the page to a file, whose folder is created.

    Args:
        path: The file.
        galleries: The old and the new.
        pictures: How their pictures differ.
        answers: How their answers differ; ``None`` where none were compared.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    title = " and ".join(gallery.build_id for gallery in galleries)
    write_atomic(path, page(f"Builds {title}", _body(galleries, pictures, answers)))


def _body(
    galleries: _Galleries, pictures: PictureChanges, answers: AnswerChanges | None
) -> Iterator[str]:
    yield table([_describe(gallery) for gallery in galleries])
    old, new = galleries
    yield from _landmarks("Landmarks that are new", new, pictures.landmarks_in)
    yield from _landmarks("Landmarks that are gone", old, pictures.landmarks_out)
    yield from _pictures("Pictures that are new", new, pictures.added)
    yield from _pictures("Pictures that are gone", old, pictures.removed)
    what = "Pictures with another content or landmark, as they are now"
    yield from _pictures(what, new, pictures.changed[:, 1])
    if answers is not None:
        yield from _answers(galleries, answers)


def _describe(gallery: Gallery) -> dict[str, object]:
    made = gallery.manifest.embedder
    facts: dict[str, object] = {"build": gallery.build_id, "pictures": len(gallery)}
    return {**facts, "landmarks": len(gallery.landmarks()), "embedder": made.name}


def _landmarks(title: str, gallery: Gallery, ids: Sequence[str]) -> Iterator[str]:
    if ids:
        catalog, codes = gallery.catalog, gallery.catalog.landmarks_of_ids(ids[:_NAMED])
        names = [catalog.name(codes[one]) for one in ids[:_NAMED]]
        named = ", ".join(map(text, names)) + (", …" if len(ids) > _NAMED else "")
        yield f"<h2>{text(title)}: {len(ids)}</h2><p>{named}</p>"


def _pictures(title: str, gallery: Gallery, rows: NDArray[np.int64]) -> Iterator[str]:
    if len(rows):
        shown = rows[np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(np.int64)]
        yield f"<h2>{text(title)}: {len(rows)}</h2>"
        yield side_by_side(gallery_figure(gallery, row, "") for row in shown.tolist())


def _answers(galleries: _Galleries, answers: AnswerChanges) -> Iterator[str]:
    other = answers.changed & ~answers.broken & ~answers.corrected
    groups = {
        "Answers that were right and are wrong": (answers.broken, answers.old),
        "Answers that were wrong and are right": (answers.corrected, answers.new),
        "Other answers that changed": (other, answers.new),
    }
    yield "<p>The query first, then the nearest picture of the old and of the new build.</p>"
    for title, (flags, by) in groups.items():
        places = np.flatnonzero(flags)
        surest = np.argsort(-by.answers.scores[places], kind="stable")[:SHOWN]
        yield f"<h2>{text(title)}: {len(places)}</h2>"
        for place in places[surest].tolist():
            yield _answer(galleries, answers, place)


def _answer(galleries: _Galleries, answers: AnswerChanges, place: int) -> str:
    query = answers.old.queries[place]
    truth = " / ".join(query.landmark_ids) or "no landmark"
    figures = [figure(query.path, f"<b>{text(truth)}</b><br>{text(query.id)}")]
    pairs = zip(galleries, (answers.old, answers.new), answers.right[:, place], strict=True)
    for gallery, answered, right in pairs:
        given = answered.answers
        predicted = gallery.catalog.name(int(given.landmarks[place]))
        remark = f"answer: {predicted}, {given.confidences[place]:.3f}"
        row = int(given.rows[place, 0])
        figures.append(gallery_figure(gallery, row, remark, right=bool(right)))
    return side_by_side(figures)
