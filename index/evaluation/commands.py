"""Commands that ask a gallery: predict, evaluate, calibrate; ``cairn-index`` has them.

Heavy libraries are imported after the arguments are parsed, so that ``--help`` is instant.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from embedder.command_line import Folder
from index.cli_options import BuildId, Embedding
from index.evaluation.defaults import PRECISION_TARGET

Result = dict[str, Any]


def predict(
    *,
    store: Folder,
    embedding: Embedding,
    pictures: Annotated[Path, Parameter(metavar="DIR_OR_LIST")],
    out: Annotated[Path, Parameter(metavar="CSV")],
    build: BuildId = None,
) -> Result:
    """Answer pictures and write a submission.

    Args:
        store: Folder of the galleries.
        embedding: Embedder.
        pictures: Folder that is walked, or a list of ids or paths.
        out: The submission to write.
        build: Which build answers (default: the published one).
    """
    from index.evaluation.predict import predict
    from photographs import list_pictures

    queries = list_pictures(pictures)
    with embedding.open() as embedder, embedding.open_gallery(store, embedder, build) as gallery:
        written = predict(gallery, embedder, queries, out, embedding.pipeline(store))
        return {
            "submission": str(written.path),
            "report": str(written.report),
            "queries": written.queries,
            "unreadable": written.unreadable,
            "embedded": written.embedded,
            "build_id": gallery.build_id,
        }


def evaluate(
    *,
    store: Folder,
    embedding: Embedding,
    data: Folder,
    report: Annotated[Path | None, Parameter(metavar="HTML")] = None,
    build: BuildId = None,
) -> Result:
    """Evaluate a gallery by labeled queries.

    Args:
        store: Folder of the galleries.
        embedding: Embedder.
        data: Photographs with labeled queries, in a layout that build reads.
        report: Write a page with the metrics and the worst mistakes beside their neighbors.
        build: Which build is evaluated (default: the published one).
    """
    from index.evaluation.evaluate import evaluate
    from index.evaluation.report import write_report
    from photographs import open_data

    photographs = open_data(data)
    with embedding.open() as embedder, embedding.open_gallery(store, embedder, build) as gallery:
        options = embedding.pipeline(store)
        evaluation, answered = evaluate(gallery, embedder, photographs, options)
        if report is not None:
            write_report(report, gallery, evaluation, answered)
    return asdict(evaluation)


def calibrate(
    *,
    store: Folder,
    embedding: Embedding,
    data: Folder,
    precision_target: Annotated[
        float, Parameter(validator=Number(gt=0, lt=1), metavar="SHARE")
    ] = PRECISION_TARGET,
    build: BuildId = None,
) -> Result:
    """Fit confidences to the labeled queries, and publish the result.

    Args:
        store: Folder of the galleries.
        embedding: Embedder.
        data: Photographs with labeled queries, in a layout that build reads.
        precision_target: Share of the answers above the threshold that shall be right.
        build: Which build is calibrated (default: the published one); the result of another is
            not published.
    """
    from index.building.embedded import Tally
    from index.evaluation.calibrate import CalibrationRecipe, calibrate
    from index.gallery.store import Store
    from photographs import open_data

    photographs, tally, galleries = open_data(data), Tally(), Store(store)
    recipe = CalibrationRecipe(precision_target, build, embedding.pipeline(store))
    with embedding.open() as embedder:
        manifest = calibrate(galleries, embedder, photographs, recipe, tally)
    fitted = manifest.model_dump(mode="json", include={"build_id", "ranking", "calibration"})
    return {**fitted, "published": manifest.build_id == galleries.current(), **asdict(tally)}
