"""A page for people: the figures of an evaluation, and its worst mistakes beside their neighbors.

One file that needs nothing else: pictures are small JPEGs inside it, without their EXIF data.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from embedder.digest import write_atomic
from index.evaluate import Evaluation, Judged
from index.gallery import Gallery
from index.recognize import Recognition
from index.thumbnails import make_thumbnail

MISTAKES = 24
"""How many wrong answers are shown: the surest ones."""

_NEIGHBORS = 5
_SIDE = 168

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem }
table { border-collapse: collapse } th, td { padding: .3rem .9rem .3rem 0; text-align: right }
th { font-weight: 600 } th:first-child, td:first-child { text-align: left }
tr { border-bottom: 1px solid var(--line) }
.mistake { display: flex; gap: .75rem; padding: 1rem 0; border-bottom: 1px solid var(--line);
  overflow-x: auto }
figure { margin: 0; width: 168px; flex: none; font-size: .8rem; overflow-wrap: anywhere }
figure:first-child { margin-right: 1rem }
img, .none { width: 168px; height: 168px; object-fit: cover; border-radius: 6px; display: block }
.none { border: 1px dashed var(--soft); color: var(--soft); display: grid; place-items: center }
b { font-weight: 600 } .soft { color: var(--soft) } .right img { outline: 3px solid #2a9d5c }
"""


def write_report(path: Path, gallery: Gallery, figures: Evaluation, judged: Judged) -> None:
    """Write the page.

    Args:
        path: The file to write; its folder is made.
        gallery: What was judged.
        figures: What :func:`index.evaluate.evaluate` found.
        judged: What it found it by.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join(_page(gallery, figures, judged)).encode())


def _page(gallery: Gallery, figures: Evaluation, judged: Judged) -> Iterator[str]:
    wrong = _worst(gallery, judged)
    yield '<!doctype html><html lang="en"><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>{_text(gallery.build_id)}</title><style>{_STYLE}</style>"
    yield f"<h1>Gallery {_text(gallery.build_id)}</h1>"
    yield (
        f"<p>{figures.queries} queries, {figures.known} of them of landmarks and "
        f"{figures.unknown} of none; {gallery.manifest.rows} pictures of "
        f"{gallery.manifest.landmarks} landmarks. mAP@100 {_number(figures.map100)}.</p>"
    )
    yield "<h2>Rankings</h2>"
    yield _table([asdict(rung) for rung in figures.ladder])
    if figures.threshold is not None:
        yield "<h2>Threshold</h2>" + _table([asdict(figures.threshold)])
    yield "<h2>By the number of pictures of a landmark</h2>"
    yield _table([asdict(group) for group in figures.class_sizes])
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
    told = f"<b>{_text(truth)}</b><br>said: {_text(said)}, {answer.confidence:.3f}"
    if answer.probability is not None:
        told += f", probability {answer.probability:.2f}"
    cells = [_figure(query.path, f"{told}<br><span class=soft>{_text(query.id)}</span>")]
    cells += _neighbors(gallery, answer, query.landmark_ids)
    return f"<div class=mistake>{''.join(cells)}</div>"


def _neighbors(gallery: Gallery, answer: Recognition, landmark_ids: Sequence[str]) -> Iterator[str]:
    pairs = zip(answer.rows.tolist(), answer.similarities.tolist(), strict=True)
    for row, similarity in list(pairs)[:_NEIGHBORS]:
        known = gallery.catalog.row(row)
        root = Path(gallery.manifest.sources[known.source].data)
        name = gallery.catalog.name(int(gallery.catalog.landmarks[row]))
        told = (
            f"{_text(name)}<br>{similarity:.3f} <span class=soft>{_text(known.picture_id)}</span>"
        )
        yield _figure(root / known.path, told, right=known.landmark_id in landmark_ids)


def _figure(path: Path, caption: str, *, right: bool = False) -> str:
    try:
        thumbnail = make_thumbnail(path.read_bytes(), _SIDE)
    except OSError:
        thumbnail = None
    picture = "<div class=none>not there</div>"
    if thumbnail is not None:
        data = base64.b64encode(thumbnail).decode()
        picture = f'<img alt="" src="data:image/jpeg;base64,{data}">'
    marked = " class=right" if right else ""
    return f"<figure{marked}>{picture}<figcaption>{caption}</figcaption></figure>"


def _table(rows: Sequence[dict[str, object]]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{_text(name.replace('_', ' '))}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{_number(value)}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _number(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else _text(str(value))


def _text(text: str) -> str:
    return html.escape(text)
