"""The command ``cairn-index``: parse, call one function, print its result.

Heavy libraries are imported after the arguments are parsed, so that ``--help`` is instant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from embedder.command_line import (
    RESUMABLE,
    Count,
    Folder,
    PositiveCount,
    PrecisionChoice,
    Share,
    command_app,
    run,
)
from embedder.errors import GalleryError
from embedder.runtimes.names import Device
from index.building.defaults import BATCH_PICTURES
from index.evaluation.defaults import PRECISION_TARGET
from index.maintenance.defaults import IDLE_HOURS, KEEP_BUILDS, SAMPLE_PICTURES

if TYPE_CHECKING:
    from embedder.embedder import Embedder
    from index.building.embedder_choice import EmbedderChoice
    from index.building.extras import DistractorSet
    from index.building.pipeline import PipelineOptions
    from index.building.recipe import BuildRecipe
    from index.gallery.gallery import Gallery
    from index.gallery.manifest import GalleryManifest
    from index.gallery.store import Store
    from index.ranking.ranking import Ranking

Result = dict[str, Any]
Ids = Annotated[tuple[str, ...], Parameter(metavar="ID...", consume_multiple=(1, None))]
Penalty = Annotated[float, Parameter(validator=Number(gte=0, lt=math.inf), metavar="W")]
Side = Annotated[int, Parameter(validator=Number(gte=0, lte=512), metavar="SIDE")]

app = command_app("cairn-index", "Build galleries of photographs, search and maintain them.")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Running:
    """How a network is run.

    Attributes:
        device: What runs the network; auto is an NVIDIA GPU if there is one.
        precision: Arithmetic of the network; auto is bf16 where it is exact enough.
        threads: CPU threads for the network, decoding and search; 0 is one per core.
    """

    device: Device = "auto"
    precision: PrecisionChoice = "auto"
    threads: Count = 0

    def choice(self, embedder: Path) -> EmbedderChoice:
        """Choose how to run an embedder."""
        from index.building.embedder_choice import EmbedderChoice

        return EmbedderChoice(embedder, self.device, self.precision, self.threads)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Embedding(Running):
    """Which embedder is run, and how.

    Attributes:
        embedder: Embedder artifact.
        batch_size: Pictures that the network gets at once.
    """

    embedder: Folder
    batch_size: PositiveCount = BATCH_PICTURES

    def open(self) -> closing[Embedder]:
        """Load the embedder, to be closed by ``with``."""
        return closing(self.choice(self.embedder).open())

    def open_gallery(self, store: Path, embedder: Embedder) -> closing[Gallery]:
        """Open the published gallery, to be closed by ``with``."""
        from index.gallery.gallery import Gallery

        gallery = Gallery.open(
            store, embedder_digest=embedder.digest, threads=self.threads, device=embedder.device
        )
        return closing(gallery)

    def pipeline(self) -> PipelineOptions:
        """Return the options of the functions that embed pictures."""
        from index.building.pipeline import PipelineOptions

        return PipelineOptions(self.batch_size, self.threads)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Making:
    """What is made of the photographs.

    Attributes:
        list_name: List of the data folder that is the gallery (default: train_clean.csv, else
            train.csv, else index.csv; for rebuild, the gallery's own).
        max_unreadable: Stop when more than this share of the pictures cannot be read (default:
            0.01, or 5 pictures if that is more).
        kind: exact (every vector compared in fp16), fastscan (by 4-bit codes, the best in fp16),
            a factory string of FAISS for a first look of your own, or auto: exact up to 100,000
            pictures and on a GPU that holds them, fastscan above (default: auto, or the kind
            that was asked for when the gallery was built).
        min_recall: Publish nothing whose recall@1 against exact answers is lower (default: any).
    """

    list_name: Annotated[str | None, Parameter(name="--list", metavar="NAME")] = None
    max_unreadable: Share | None = None
    kind: Annotated[str | None, Parameter(metavar="KIND")] = None
    min_recall: Share | None = None

    def recipe(self, embedding: Embedding, thumbnails: int | None = None) -> BuildRecipe:
        """Turn the options into a recipe."""
        from index.building.recipe import BuildRecipe

        return BuildRecipe(
            self.list_name,
            self.max_unreadable,
            embedding.pipeline(),
            kind=self.kind,
            min_recall=self.min_recall,
            thumbnail_side=thumbnails,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RankingOptions:
    """How neighbors become an answer.

    Attributes:
        ranking: The nearest picture, or a vote of the nearest few (default: what the embedder
            advises, else top1).
        vote_neighbors: How many vote (default: what the embedder advises, else 5).
        vote_power: A vote counts its cosine to this power (default: what the embedder advises,
            else 8).
        distractors: Folder or list of pictures of no landmark: what looks like them is less
            likely a landmark. 'gallery' takes the centers of the gallery's own landmarks, for
            want of such pictures.
        gallery_penalty: Subtract W times its similarity to distractors from each gallery
            picture's similarity; 1 is the published strength.
        query_penalty: Subtract W times its similarity to distractors from each query's
            confidence; 1 is the published strength, and calibrate fits it.
        gallery_distractors: A gallery picture is compared with its N nearest distractors
            (default: 5 pictures, or all centers).
        query_distractors: The same for a query; a large N takes all (default: 10 pictures, or
            all centers).
    """

    ranking: Literal["top1", "vote"] | None = None
    vote_neighbors: PositiveCount | None = None
    vote_power: (
        Annotated[float, Parameter(validator=Number(gt=0, lt=math.inf), metavar="P")] | None
    ) = None
    distractors: Annotated[str | None, Parameter(metavar="DIR_OR_LIST")] = None
    gallery_penalty: Penalty = 0.0
    query_penalty: Penalty = 0.0
    gallery_distractors: PositiveCount | None = None
    query_distractors: PositiveCount | None = None

    def check(self) -> None:
        """Refuse options that contradict each other."""
        from index.gallery.distractors import OWN

        if self.distractors == OWN and Path(OWN).is_dir():
            raise GalleryError(
                f"--distractors {OWN} means the gallery's own landmarks, and there is a folder of "
                f"that name here: write ./{OWN} for the folder, or rename it"
            )
        if (self.gallery_penalty or self.query_penalty) and self.distractors is None:
            raise GalleryError(
                "a penalty needs pictures of no landmark: give them as --distractors"
            )

    def resolve(self, embedder: Embedder) -> Ranking:
        """Take what is given, and for the rest what the embedder advises."""
        from index.building.extras import advised_ranking
        from index.gallery.distractors import MOST_LANDMARKS, OWN

        everything = MOST_LANDMARKS if self.distractors == OWN else None
        chosen = {
            "rule": self.ranking,
            "neighbors": self.vote_neighbors,
            "power": self.vote_power,
            "gallery_penalty": self.gallery_penalty,
            "gallery_distractors": self.gallery_distractors or everything,
            "query_penalty": self.query_penalty,
            "query_distractors": self.query_distractors or everything,
        }
        given = {name: value for name, value in chosen.items() if value is not None}
        return advised_ranking(embedder.manifest).model_copy(update=given)

    def embed_distractors(
        self, embedder: Embedder, embedding: Embedding
    ) -> DistractorSet | Literal["gallery"] | None:
        """Embed the distractors, if there are pictures of them."""
        from index.building.extras import DistractorSet
        from index.gallery.distractors import OWN

        if self.distractors is None:
            return None
        if self.distractors == OWN:
            return OWN
        return DistractorSet.embed(Path(self.distractors), embedder, embedding.pipeline())


@app.command
def build(
    *,
    store: Folder,
    data: Folder,
    embedding: Embedding,
    making: Making = Making(),
    thumbnails: Side | None = None,
    ranking: RankingOptions = RankingOptions(),
) -> Result:
    """Embed photographs and publish them as a gallery.

    Args:
        store: Folder of the galleries; made if missing.
        data: Photographs: files of Google Landmarks v2, or one folder per landmark.
        embedding: Embedder.
        making: Recipe.
        thumbnails: Keep a small JPEG of each picture in the gallery, for people who look at
            answers: no side longer than SIDE pixels, at most 512; 0 keeps none (default: none).
        ranking: Ranking.
    """
    from index.building.build import build
    from index.building.extras import Extras
    from photographs import open_data

    photographs = open_data(data)
    ranking.check()
    with embedding.open() as embedder:
        extras = Extras(ranking.resolve(embedder), ranking.embed_distractors(embedder, embedding))
        recipe = replace(making.recipe(embedding, thumbnails), extras=extras)
        galleries = _store(store)
        return _describe(galleries, build(galleries, embedder, photographs, recipe))


@app.command
def rebuild(
    *,
    store: Folder,
    embedding: Embedding,
    making: Making = Making(),
    data: Annotated[tuple[Path, ...], Parameter(metavar="DIR")] = (),
    thumbnails: Side | None = None,
    hash: bool = False,
) -> Result:
    """Bring the gallery up to date, embedding only what changed.

    Args:
        store: Folder of the galleries.
        embedding: Embedder.
        making: Recipe.
        data: Where the photographs are now, once for each folder of the gallery, in the order in
            which they were added (default: where they were).
        thumbnails: Longest side of the thumbnails, at most 512 pixels; 0 keeps none (default: as
            the gallery has them; for others every picture is read).
        hash: Read every file: find pictures that changed and kept their size and time.
    """
    from index.building.rebuild import rebuild

    galleries, choice = _store(store), embedding.choice(embedding.embedder)
    recipe = making.recipe(embedding, thumbnails)
    return _describe(galleries, rebuild(galleries, choice, recipe, data=data, by_content=hash))


@app.command
def add(
    *,
    store: Folder,
    data: Folder,
    embedding: Embedding,
    making: Making = Making(),
) -> Result:
    """Add a folder of photographs to the gallery.

    Args:
        store: Folder of the galleries.
        data: Photographs: files of Google Landmarks v2, or one folder per landmark.
        embedding: Embedder.
        making: Recipe.
    """
    from index.maintenance.add import add
    from photographs import open_data

    galleries, choice = _store(store), embedding.choice(embedding.embedder)
    return _describe(galleries, add(galleries, choice, open_data(data), making.recipe(embedding)))


@app.command
def remove(*, store: Folder, pictures: Ids = (), landmarks: Ids = ()) -> Result:
    """Remove pictures or landmarks from the gallery for good.

    Args:
        store: Folder of the galleries.
        pictures: Ids of pictures.
        landmarks: Ids of landmarks.
    """
    from index.maintenance.remove import remove

    galleries = _store(store)
    return _describe(galleries, remove(galleries, pictures=pictures, landmarks=landmarks))


@app.command(name="list")
def list_builds(*, store: Folder) -> Result:
    """List the builds of a store.

    Args:
        store: Folder of the galleries.
    """
    from index.maintenance.history import list_builds

    builds = list_builds(_store(store))
    return {
        "current": next((build.build_id for build in builds if build.current), None),
        "builds": [build.summary() for build in builds],
    }


@app.command
def verify(
    *,
    store: Folder,
    embedder: Folder | None = None,
    running: Running = Running(),
    sample: PositiveCount = SAMPLE_PICTURES,
    build: Annotated[str | None, Parameter(metavar="ID")] = None,
) -> Result:
    """Check a build: bytes, counts and vectors.

    Args:
        store: Folder of the galleries.
        embedder: Embed a sample again with this artifact and compare (default: only read and
            count).
        running: How to embed.
        sample: Pictures that are embedded again.
        build: Which build (default: the published one).
    """
    from index.maintenance.verify import verify

    opened = closing(running.choice(embedder).open()) if embedder else nullcontext()
    with opened as loaded:
        return asdict(verify(_store(store), loaded, build_id=build, sample=sample))


@app.command
def rollback(
    *, store: Folder, build: Annotated[str | None, Parameter(metavar="ID")] = None
) -> Result:
    """Publish an earlier build again.

    Args:
        store: Folder of the galleries.
        build: Which build (default: the one before the published one).
    """
    from index.maintenance.history import roll_back

    galleries = _store(store)
    return _describe(galleries, roll_back(galleries, build))


@app.command
def gc(
    *,
    store: Folder,
    keep: PositiveCount = KEEP_BUILDS,
    idle_hours: Annotated[float, Parameter(metavar="H")] = IDLE_HOURS,
) -> Result:
    """Delete old builds and abandoned work.

    Args:
        store: Folder of the galleries.
        keep: Newest builds that stay, beside the published one.
        idle_hours: An unfinished build is abandoned when nothing was written for so long.
    """
    from index.maintenance.history import clean

    return asdict(clean(_store(store), keep=keep, idle_hours=idle_hours))


@app.command
def predict(
    *,
    store: Folder,
    embedding: Embedding,
    pictures: Annotated[Path, Parameter(metavar="DIR_OR_LIST")],
    out: Annotated[Path, Parameter(metavar="CSV")],
) -> Result:
    """Answer pictures and write a submission.

    Args:
        store: Folder of the galleries.
        embedding: Embedder.
        pictures: Folder that is walked, or a list of ids or paths.
        out: The submission to write.
    """
    from index.evaluation.predict import predict
    from photographs import list_pictures

    queries = list_pictures(pictures)
    with embedding.open() as embedder, embedding.open_gallery(store, embedder) as gallery:
        written = predict(gallery, embedder, queries, out, embedding.pipeline())
        return {
            "submission": str(written.path),
            "report": str(written.report),
            "queries": written.queries,
            "unreadable": written.unreadable,
            "build_id": gallery.build_id,
        }


@app.command
def evaluate(
    *,
    store: Folder,
    embedding: Embedding,
    data: Folder,
    report: Annotated[Path | None, Parameter(metavar="HTML")] = None,
) -> Result:
    """Evaluate a gallery by labeled queries.

    Args:
        store: Folder of the galleries.
        embedding: Embedder.
        data: Photographs with labeled queries, in a layout that build reads.
        report: Write a page with the metrics and the worst mistakes beside their neighbors.
    """
    from index.evaluation.evaluate import evaluate
    from index.evaluation.report import write_report
    from photographs import open_data

    photographs = open_data(data)
    with embedding.open() as embedder, embedding.open_gallery(store, embedder) as gallery:
        evaluation, answered = evaluate(gallery, embedder, photographs, embedding.pipeline())
        if report is not None:
            write_report(report, gallery, evaluation, answered)
    return asdict(evaluation)


@app.command
def calibrate(
    *,
    store: Folder,
    embedding: Embedding,
    data: Folder,
    precision_target: Annotated[
        float, Parameter(validator=Number(gt=0, lt=1), metavar="SHARE")
    ] = PRECISION_TARGET,
) -> Result:
    """Fit confidences to the labeled queries, and publish the result.

    Args:
        store: Folder of the galleries.
        embedding: Embedder.
        data: Photographs with labeled queries, in a layout that build reads.
        precision_target: Share of the answers above the threshold that shall be right.
    """
    from index.evaluation.calibrate import calibrate
    from photographs import open_data

    photographs = open_data(data)
    with embedding.open() as embedder:
        manifest = calibrate(
            _store(store),
            embedder,
            photographs,
            embedding.pipeline(),
            precision_target=precision_target,
        )
    return manifest.model_dump(mode="json", include={"build_id", "ranking", "calibration"})


def _store(directory: Path) -> Store:
    from index.gallery.store import Store

    return Store(directory)


def _describe(store: Store, manifest: GalleryManifest) -> Result:
    shown = {"build_id", "kind", "rows", "removed", "landmarks", "dimension"}
    shown |= {"recall", "thumbnail_side", "unreadable"}
    return {
        **manifest.model_dump(mode="json", include=shown),
        "list": manifest.list.name,
        "embedder": manifest.embedder.digest,
        "gallery": str(store.directory(manifest.build_id)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run(app, arguments, resume_hints=dict.fromkeys((build, rebuild, add), RESUMABLE))
