"""Compare two builds: their pictures, their landmarks, and their answers to labeled queries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from index.evaluation.evaluate import Evaluation
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.review.compare import AnswerChanges, PictureChanges, compare_answers, compare_pictures
from index.review.diff_page import write_diff_page
from index.review.labeled_queries import CURRENT, LabeledQueries
from photographs import write_csv


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """How the answers of two builds to labeled queries differ.

    Attributes:
        queries: Queries that both could read.
        changed: Those whose answer differs, in its landmark or in whether it counts as known.
        corrected: Those whose answer was wrong and is right.
        broken: Those whose answer was right and is wrong.
        old_gap: GAP of the old build; ``None`` where no query shows a landmark.
        new_gap: GAP of the new one.
    """

    queries: int
    changed: int
    corrected: int
    broken: int
    old_gap: float | None
    new_gap: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How two builds differ.

    Attributes:
        old: Id of the one.
        new: Id of the other.
        pictures_in: Number of pictures that only the new one has.
        pictures_out: Number of those that only the old one has.
        pictures_changed: Number of those with another content or landmark.
        landmarks_in: Number of landmarks that only the new one has.
        landmarks_out: Number of those that only the old one has.
        same_embedder: Whether one embedder made both, in the same way.
        answers: How answers differ; ``None`` without queries.
    """

    old: str
    new: str
    pictures_in: int
    pictures_out: int
    pictures_changed: int
    landmarks_in: int
    landmarks_out: int
    same_embedder: bool
    answers: AnswerCounts | None


@dataclass(frozen=True, slots=True)
class DiffOutput:
    """Files that a comparison writes.

    Attributes:
        table: CSV file ``change,picture,landmark_id`` of all pictures that differ.
        report: Page for people.
    """

    table: Path | None = None
    report: Path | None = None


def diff(
    store: Store,
    old: str,
    new: str,
    queries: LabeledQueries | None = None,
    output: DiffOutput | None = None,
) -> Difference:
    """Compare two builds of a store.

    Args:
        store: The store.
        old: Id of a build, or :data:`CURRENT`.
        new: Id of another, or likewise.
        queries: Labeled queries that both are asked; ``None`` compares no answers.
        output: Files to write.

    Raises:
        ArtifactError: A build, or its embedder, cannot be trusted or is missing.
        CatalogError: There are no labeled queries, or their list is faulty.
    """
    output = output or DiffOutput()
    with _open(store, old) as before, _open(store, new) as after:
        pictures, answers, counts = compare_pictures(before, after), None, None
        if queries is not None:
            asked = [queries.ask(store, gallery.build_id) for gallery in (before, after)]
            answers = compare_answers((before, asked[0][1]), (after, asked[1][1]))
            counts = _count(answers, asked[0][0], asked[1][0])
        difference = Difference(
            old=before.build_id,
            new=after.build_id,
            pictures_in=len(pictures.added),
            pictures_out=len(pictures.removed),
            pictures_changed=len(pictures.changed),
            landmarks_in=len(pictures.landmarks_in),
            landmarks_out=len(pictures.landmarks_out),
            same_embedder=before.manifest.embedder == after.manifest.embedder,
            answers=counts,
        )
        if output.table is not None:
            output.table.parent.mkdir(parents=True, exist_ok=True)
            rows = _rows(before, after, pictures)
            write_csv(output.table, ("change", "picture", "landmark_id"), rows)
        if output.report is not None:
            write_diff_page(output.report, (before, after), pictures, answers)
    return difference


def _open(store: Store, build_id: str) -> closing[Gallery]:
    build = None if build_id == CURRENT else build_id
    return closing(Gallery.open(store.path, embedder_digest=None, build=build))


def _count(answers: AnswerChanges, old: Evaluation, new: Evaluation) -> AnswerCounts:
    return AnswerCounts(
        queries=len(answers.changed),
        changed=int(answers.changed.sum()),
        corrected=int(answers.corrected.sum()),
        broken=int(answers.broken.sum()),
        old_gap=old.gap,
        new_gap=new.gap,
    )


def _rows(old: Gallery, new: Gallery, pictures: PictureChanges) -> Iterator[tuple[str, str, str]]:
    groups = {
        "out": (old, pictures.removed),
        "in": (new, pictures.added),
        "changed": (new, pictures.changed[:, 1]),
    }
    for change, (gallery, rows) in groups.items():
        for row in rows.tolist():
            stored = gallery.catalog.row(row)
            yield change, stored.picture_id, stored.landmark_id
