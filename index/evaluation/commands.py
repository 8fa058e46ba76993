"""Commands that ask a gallery for answers, or measure them; ``cairn-index`` has them.

Heavy libraries are imported after the arguments are parsed, so that ``--help`` is instant.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from embedder.command_line import Folder, PositiveCount, print_line
from index.cli_options import BuildId, Data, Embedding, Reranked
from index.evaluation.defaults import PRECISION_TARGET, RETRIEVED, SHOWN_NEIGHBORS

if TYPE_CHECKING:
    from index.evaluation.submission import Submission

Result = dict[str, Any]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Retrieving:
    """What is retrieved.

    Attributes:
        k: Pictures that are found for each query.
        rerank: Put the N nearest pictures into an order by what they are near to themselves
            (default: what the gallery's ranking does).
        solution: Score the submission by this file, id,images with the pictures that should be
            found: mAP@100.
        build: Which build answers (default: the published one).
    """

    k: PositiveCount = RETRIEVED
    rerank: Reranked = None
    solution: Annotated[Path | None, Parameter(metavar="CSV")] = None
    build: BuildId = None


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
        return {**_describe(written), "build_id": gallery.build_id}


def retrieve(
    *,
    store: Folder,
    embedding: Embedding,
    pictures: Annotated[Path, Parameter(metavar="DIR_OR_LIST")],
    out: Annotated[Path, Parameter(metavar="CSV")],
    asking: Retrieving = Retrieving(),
) -> Result:
    """Find the nearest gallery pictures of pictures and write a submission.

    Args:
        store: Folder of the galleries.
        embedding: Embedder.
        pictures: Folder that is walked, or a list of ids or paths.
        out: The submission to write: id,images.
        asking: Options.
    """
    from index.evaluation.retrieve import RetrievalRecipe, retrieve
    from photographs import list_pictures

    queries = list_pictures(pictures)
    pipeline = embedding.pipeline(store)
    recipe = RetrievalRecipe(asking.k, asking.solution, pipeline, asking.rerank)
    opened = embedding.open()
    with opened as embedder, embedding.open_gallery(store, embedder, asking.build) as gallery:
        written, map100 = retrieve(gallery, embedder, queries, out, recipe)
        return {**_describe(written), "map100": map100, "build_id": gallery.build_id}


def _describe(written: Submission) -> Result:
    described = asdict(written)
    return {"submission": str(described.pop("path")), **described, "report": str(written.report)}


def search(
    picture: Annotated[Path, Parameter(metavar="PICTURE")],
    /,
    *,
    store: Folder,
    embedding: Embedding,
    k: PositiveCount = SHOWN_NEIGHBORS,
    build: BuildId = None,
) -> Result | int:
    """Search the gallery for one picture: words on a terminal, else JSON.

    Args:
        picture: The picture.
        store: Folder of the galleries.
        embedding: Embedder.
        k: How many neighbors are shown.
        build: Which build answers (default: the published one).
    """
    from index.evaluation.search import search

    with embedding.open() as embedder, embedding.open_gallery(store, embedder, build) as gallery:
        found = search(gallery, embedder, picture, k, embedding.pipeline())
    return print_line("\n".join(found.lines())) if sys.stdout.isatty() else asdict(found)


def evaluate(
    *,
    store: Folder,
    embedding: Embedding,
    data: Data,
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

    photographs = data.open()
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
    data: Data,
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

    photographs, tally, galleries = data.open(), Tally(), Store(store)
    recipe = CalibrationRecipe(precision_target, build, embedding.pipeline(store))
    with embedding.open() as embedder:
        manifest = calibrate(galleries, embedder, photographs, recipe, tally)
    fitted = manifest.model_dump(mode="json", include={"build_id", "ranking", "calibration"})
    return {
        **fitted,
        "published": manifest.build_id == galleries.current(),
        "embedded": tally.embedded,
        "known": tally.known,
    }


COMMANDS = (predict, retrieve, search, evaluate, calibrate)
