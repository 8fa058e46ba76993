"""A page for people: metrics of an evaluation, and its worst mistakes beside their neighbors."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from embedder.artifacts.files import write_atomic
from embedder.reports.page import figure, number, page, side_by_side, table, text
from index.evaluation.evaluate import Evaluation
from index.evaluation.queries import AnsweredQueries, Answers
from index.evaluation.truths import Truths
from index.gallery.gallery import Gallery

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
        f"{evaluation.unknown} of none; {len(gallery)} pictures of "
        f"{len(gallery.landmarks())} landmarks. mAP@100 {number(evaluation.map100)}.</p>"
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
    truths = Truths.of_queries(answered.queries, gallery.catalog)
    right = truths.shows(answered.answers.landmarks)
    order = np.argsort(-answered.answers.scores, kind="stable")
    worst: list[int] = order[~right[order]][:MISTAKES].tolist()
    return worst


def _mistake(gallery: Gallery, answered: AnsweredQueries, place: int) -> str:
    query, answers = answered.queries[place], answered.answers
    confidence, probability = answers.confidences[place], answers.probabilities[place]
    catalog = gallery.catalog
    codes = catalog.landmarks_of_ids(query.landmark_ids)
    names = {landmark: catalog.name(code) for landmark, code in codes.items()}
    truths = [names.get(id_, f"{id_}, not in the gallery") for id_ in query.landmark_ids]
    truth = " / ".join(truths) or "no landmark"
    predicted = catalog.name(int(answers.landmarks[place]))
    caption = f"<b>{text(truth)}</b><br>predicted: {text(predicted)}, {confidence:.3f}"
    if not np.isnan(probability):
        caption += f", probability {probability:.2f}"
    own = figure(query.path, f"{caption}<br><span class=soft>{text(query.id)}</span>")
    return side_by_side([own, *_neighbors(gallery, answers, place, query.landmark_ids)])


def _neighbors(
    gallery: Gallery, answers: Answers, place: int, landmark_ids: Sequence[str]
) -> Iterator[str]:
    pairs = zip(answers.rows[place].tolist(), answers.similarities[place].tolist(), strict=True)
    for row, similarity in list(pairs)[:_NEIGHBORS]:
        right = gallery.catalog.row(row).landmark_id in landmark_ids
        yield gallery_figure(gallery, row, f"{similarity:.3f}", right=right)


def gallery_figure(gallery: Gallery, row: int, remark: str, *, right: bool = False) -> str:
    """Render a picture of a gallery with its landmark, a remark in plain text, and its id."""
    stored = gallery.catalog.row(row)
    root = Path(gallery.manifest.sources[stored.source].data)
    name = gallery.catalog.name(int(gallery.catalog.landmarks[row]))
    soft = f"<span class=soft>{text(stored.picture_id)}</span>"
    return figure(root / stored.path, f"{text(name)}<br>{text(remark)} {soft}", right=right)
