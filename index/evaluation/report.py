"""A page for people: metrics of an evaluation, and its worst mistakes beside their neighbors."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from embedder.artifacts.files import write_atomic
from embedder.reports.page import figure, number, page, side_by_side, table, text
from index.evaluation.evaluate import Evaluation
from index.evaluation.queries import AnsweredQueries
from index.gallery.gallery import Gallery
from index.gallery.recognize import Recognition

MISTAKES = 24
"""Number of wrong answers that are shown: the most confident ones."""

_NEIGHBORS = 5


def write_report(
    path: Path, gallery: Gallery, evaluation: Evaluation, answered: AnsweredQueries
) -> None:
    """Write the page to a file, whose folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page(f"Gallery {gallery.build_id}", _body(gallery, evaluation, answered)))


def _body(gallery: Gallery, evaluation: Evaluation, answered: AnsweredQueries) -> Iterator[str]:
    wrong = _worst(gallery, answered)
    yield (
        f"<p>{evaluation.queries} queries, {evaluation.known} of them of landmarks and "
        f"{evaluation.unknown} of none; {gallery.manifest.rows} pictures of "
        f"{gallery.manifest.landmarks} landmarks. mAP@100 {number(evaluation.map100)}.</p>"
    )
    yield "<h2>Rankings</h2>"
    yield table([{"ranking": step.ranking} | asdict(step) for step in evaluation.ladder])
    if evaluation.threshold is not None:
        yield "<h2>Threshold</h2>" + table([asdict(evaluation.threshold)])
    yield "<h2>By the number of pictures of a landmark</h2>"
    yield table([asdict(group) for group in evaluation.class_sizes])
    yield f"<h2>The {len(wrong)} most confident wrong answers</h2>"
    yield "<p>The query first, then the gallery's nearest pictures; green is a right landmark.</p>"
    for place in wrong:
        yield _mistake(gallery, answered, place)


def _worst(gallery: Gallery, answered: AnsweredQueries) -> list[int]:
    """Find the most confident wrong answers, most confident first."""
    pairs = enumerate(zip(answered.queries, answered.answers, strict=True))
    landmark_id = gallery.catalog.landmark_id
    wrong = [n for n, (q, a) in pairs if landmark_id(a.landmark) not in q.landmark_ids]
    return sorted(wrong, key=lambda place: -answered.answers[place].confidence)[:MISTAKES]


def _mistake(gallery: Gallery, answered: AnsweredQueries, place: int) -> str:
    query, answer = answered.queries[place], answered.answers[place]
    catalog = gallery.catalog
    codes = {catalog.landmark_id(code): code for code in range(catalog.landmark_count)}
    names = {id_: catalog.name(codes[id_]) for id_ in query.landmark_ids if id_ in codes}
    truths = [names.get(id_, f"{id_}, not in the gallery") for id_ in query.landmark_ids]
    truth = " / ".join(truths) or "no landmark"
    predicted = catalog.name(answer.landmark)
    caption = f"<b>{text(truth)}</b><br>predicted: {text(predicted)}, {answer.confidence:.3f}"
    if answer.probability is not None:
        caption += f", probability {answer.probability:.2f}"
    own = figure(query.path, f"{caption}<br><span class=soft>{text(query.id)}</span>")
    return side_by_side([own, *_neighbors(gallery, answer, query.landmark_ids)])


def _neighbors(gallery: Gallery, answer: Recognition, landmark_ids: Sequence[str]) -> Iterator[str]:
    pairs = zip(answer.rows.tolist(), answer.similarities.tolist(), strict=True)
    for row, similarity in list(pairs)[:_NEIGHBORS]:
        stored = gallery.catalog.row(row)
        root = Path(gallery.manifest.sources[stored.source].data)
        name = gallery.catalog.name(int(gallery.catalog.landmarks[row]))
        soft = f"<span class=soft>{text(stored.picture_id)}</span>"
        caption = f"{text(name)}<br>{similarity:.3f} {soft}"
        yield figure(root / stored.path, caption, right=stored.landmark_id in landmark_ids)
