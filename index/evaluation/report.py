"""A page for people: figures of an evaluation, its worst mistakes beside their neighbors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from embedder.artifacts.files import write_atomic
from embedder.reports.page import figure, number, page, side_by_side, table, text
from index.evaluation.evaluate import Evaluation, Judged
from index.gallery.gallery import Gallery
from index.gallery.recognize import Recognition

MISTAKES = 24
"""How many wrong answers are shown: the surest ones."""

_NEIGHBORS = 5


def write_report(path: Path, gallery: Gallery, figures: Evaluation, judged: Judged) -> None:
    """Write the page.

    Args:
        path: The file to write; its folder is made.
        gallery: What was judged.
        figures: What :func:`index.evaluation.evaluate.evaluate` found.
        judged: What it found it by.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"Gallery {gallery.build_id}"
    write_atomic(path, page(title, _body(gallery, figures, judged)))


def _body(gallery: Gallery, figures: Evaluation, judged: Judged) -> Iterator[str]:
    wrong = _worst(gallery, judged)
    yield (
        f"<p>{figures.queries} queries, {figures.known} of them of landmarks and "
        f"{figures.unknown} of none; {gallery.manifest.rows} pictures of "
        f"{gallery.manifest.landmarks} landmarks. mAP@100 {number(figures.map100)}.</p>"
    )
    yield "<h2>Rankings</h2>"
    yield table([asdict(rung) for rung in figures.ladder])
    if figures.threshold is not None:
        yield "<h2>Threshold</h2>" + table([asdict(figures.threshold)])
    yield "<h2>By the number of pictures of a landmark</h2>"
    yield table([asdict(group) for group in figures.class_sizes])
    yield f"<h2>The {len(wrong)} surest of the wrong answers</h2>"
    yield "<p>The query first, then the gallery's nearest pictures; green is a right landmark.</p>"
    for place in wrong:
        yield _mistake(gallery, judged, place)


def _worst(gallery: Gallery, judged: Judged) -> list[int]:
    """Find the wrong answers of largest confidence, surest first."""
    wrong = [
        place
        for place, (query, answer) in enumerate(zip(judged.queries, judged.answers, strict=True))
        if gallery.catalog.landmark_id(answer.landmark) not in query.landmark_ids
    ]
    return sorted(wrong, key=lambda place: -judged.answers[place].confidence)[:MISTAKES]


def _mistake(gallery: Gallery, judged: Judged, place: int) -> str:
    query, answer = judged.queries[place], judged.answers[place]
    names = {gallery.catalog.landmark_id(c): c for c in range(gallery.catalog.landmark_count)}
    shown = [
        gallery.catalog.name(names[landmark]) if landmark in names else f"{landmark}, not held"
        for landmark in query.landmark_ids
    ]
    truth = " / ".join(shown) or "no landmark"
    said = gallery.catalog.name(answer.landmark)
    told = f"<b>{text(truth)}</b><br>said: {text(said)}, {answer.confidence:.3f}"
    if answer.probability is not None:
        told += f", probability {answer.probability:.2f}"
    cells = [figure(query.path, f"{told}<br><span class=soft>{text(query.id)}</span>")]
    cells += _neighbors(gallery, answer, query.landmark_ids)
    return side_by_side(cells)


def _neighbors(gallery: Gallery, answer: Recognition, landmark_ids: Sequence[str]) -> Iterator[str]:
    pairs = zip(answer.rows.tolist(), answer.similarities.tolist(), strict=True)
    for row, similarity in list(pairs)[:_NEIGHBORS]:
        known = gallery.catalog.row(row)
        root = Path(gallery.manifest.sources[known.source].data)
        name = gallery.catalog.name(int(gallery.catalog.landmarks[row]))
        told = f"{text(name)}<br>{similarity:.3f} <span class=soft>{text(known.picture_id)}</span>"
        yield figure(root / known.path, told, right=known.landmark_id in landmark_ids)
