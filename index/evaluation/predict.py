"""Answer pictures with the published gallery and write the answers as a submission.

The ranking is the served one, :mod:`index.gallery.recognize`.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from embedder.embedder import Embedder
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions
from index.evaluation.metrics import Prediction
from index.evaluation.queries import AnsweredPictures, answer_pictures
from index.evaluation.submission import Submission, check_output, encode_id, write_submission
from index.gallery.gallery import Gallery
from index.gallery.recognize import recognize
from photographs import Photograph, PhotographList


def predict(
    gallery: Gallery,
    embedder: Embedder,
    queries: Sequence[Photograph],
    out: Path,
    options: PipelineOptions = DEFAULT_OPTIONS,
) -> Submission:
    """Answer ``queries`` and write ``id,landmarks``, one row for each, in their order.

    ``landmarks`` is the landmark id, a space, and with nine decimals the confidence, or the
    probability where that was learned from several signals; it is empty for a picture that
    cannot be read, which ``<out>.unreadable.csv`` beside it lists. Both files are written whole
    or not at all.

    The folder of ``out`` is created.

    Raises:
        CatalogError: Two queries have the same id, or ``out`` is a folder.
    """
    asked = PhotographList.of(queries)
    check_output(out, asked)
    found = answer_pictures(gallery, embedder, asked, partial(recognize, gallery), options)
    return write_submission(out, "landmarks", _rows(gallery, asked, found), found)


def _rows(
    gallery: Gallery, asked: PhotographList, found: AnsweredPictures
) -> Iterator[tuple[str, str]]:
    landmark_id, answers = gallery.catalog.landmark_id, found.answers
    ids = (picture_id for picture_id, _ in asked.labeled_ids())
    columns = zip(
        ids, found.readable, answers.landmarks.tolist(), answers.scores.tolist(), strict=True
    )
    for query, readable, landmark, score in columns:
        prediction = Prediction(query, landmark_id(landmark), score) if readable else None
        yield query, format_answer(prediction)


def format_answer(prediction: Prediction | None) -> str:
    """Format an answer for a submission; empty where there is none.

    >>> format_answer(Prediction("a", "138982", 0.8731))
    '138982 0.873100000'
    >>> format_answer(Prediction("a", "Hawa Mahal", 0.8731))
    'Hawa%20Mahal 0.873100000'
    """
    if prediction is None:
        return ""
    return f"{encode_id(prediction.landmark_id)} {prediction.confidence:.9f}"
