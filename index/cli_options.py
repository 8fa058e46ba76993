"""Options that several commands share, and what the functions of this package make of them.

Light: the help of the command line shows them. Heavy modules are imported when a method is called.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from embedder.command_line import Count, Folder, LayoutName, PositiveCount, Share
from embedder.errors import GalleryError
from embedder.runtimes.names import AnyPrecision, Device
from index.building.defaults import BATCH_PICTURES

if TYPE_CHECKING:
    from embedder.embedder import Embedder
    from index.building.embedder_choice import EmbedderChoice
    from index.building.extras import DistractorSet
    from index.building.pipeline import PipelineOptions
    from index.building.recipe import BuildRecipe
    from index.gallery.gallery import Gallery
    from index.ranking.ranking import Ranking
    from photographs import PhotographSet

BuildId = Annotated[str | None, Parameter(metavar="ID")]
Penalty = Annotated[float, Parameter(validator=Number(gte=0, lt=math.inf), metavar="W")]
Reranked = Annotated[int | None, Parameter(validator=Number(gte=0, lte=1000), metavar="N")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Data:
    """Which photographs.

    Attributes:
        data: Photographs: files of Google Landmarks v2, one folder per landmark, or shards.
        layout: Which of these the folder holds (default: the first that is found, in this order).
    """

    data: Folder
    layout: LayoutName | None = None

    def open(self) -> PhotographSet:
        """Open the folder."""
        from photographs import open_data

        return open_data(self.data, self.layout)


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
    precision: AnyPrecision = "auto"
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
        max_pixels: Largest picture that is read, width x height (default: 64,000,000, or that of
            the gallery).
        max_bytes: The same in bytes of its file (default: 20 MiB, or that of the gallery).
    """

    embedder: Folder
    batch_size: PositiveCount = BATCH_PICTURES
    max_pixels: PositiveCount | None = None
    max_bytes: PositiveCount | None = None

    def open(self) -> closing[Embedder]:
        """Load the embedder, to be closed by ``with``."""
        return closing(self.choice(self.embedder).open())

    def open_gallery(
        self, store: Path, embedder: Embedder, build: str | None = None
    ) -> closing[Gallery]:
        """Open a build, by default the published one, to be closed by ``with``."""
        from index.gallery.gallery import Gallery

        gallery = Gallery.open(
            store,
            embedder_digest=embedder.digest,
            build=build,
            threads=self.threads,
            device=embedder.device,
        )
        return closing(gallery)

    def pipeline(self, store: Path | None = None) -> PipelineOptions:
        """Return the options of the functions that embed pictures.

        Vectors of queries and distractors are kept in ``store``, if it is given.
        """
        from index.building.pipeline import PipelineOptions
        from index.building.vector_cache import CACHE

        cache = None if store is None else store / CACHE
        return PipelineOptions(
            self.batch_size, self.threads, cache, self.max_pixels, self.max_bytes
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asking(Running):
    """Labeled queries that several builds are asked.

    Attributes:
        data: Photographs with labeled queries, in a layout that build reads.
        layout: Which layout that is (default: the first that is found).
        embedder: Embedders that made the builds, in any order.
        batch_size: Pictures that the network gets at once.
    """

    data: Annotated[Path | None, Parameter(metavar="DIR")] = None
    layout: LayoutName | None = None
    embedder: Annotated[
        tuple[Path, ...], Parameter(metavar="DIR...", consume_multiple=(1, None))
    ] = ()
    batch_size: PositiveCount = BATCH_PICTURES


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Making:
    """What is made of the photographs.

    Attributes:
        list_name: List of the data folder that is the gallery (default: train_clean.csv, else
            train.csv, else index.csv; for rebuild, the gallery's own).
        max_unreadable: Stop when more than this share of the new pictures cannot be read
            (default: 0.01, or 5 pictures if that is more).
        kind: exact (every vector compared in fp16), fastscan (by 4-bit codes, the best in fp16),
            a factory string of FAISS for candidates of your own, or auto: exact up to 100,000
            pictures and on a GPU that holds them, fastscan above (default: auto, or the kind
            that was asked for when the gallery was built).
        min_recall: Publish nothing whose recall@1 against exact answers is lower (default: any).
        no_publish: Leave the new build unpublished, to be evaluated first; the command publish
            publishes it.
    """

    list_name: Annotated[str | None, Parameter(name="--list", metavar="NAME")] = None
    max_unreadable: Share | None = None
    kind: Annotated[str | None, Parameter(metavar="KIND")] = None
    min_recall: Share | None = None
    no_publish: bool = False

    def check(self, embedder: Embedder) -> None:
        """Refuse a kind that no gallery of the embedder can have."""
        from index.search.kind_check import check_kind
        from index.search.kinds import resolve

        if self.kind is not None:
            dimension = embedder.dimension
            check_kind(resolve(self.kind, 1, dimension=dimension), dimension=dimension)

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
            no_publish=self.no_publish,
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
        rerank: Put the N nearest pictures into an order by what they are near to themselves,
            before the rule sees them (default: what the embedder advises, else 0, none).
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
    rerank: Reranked = None
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
            "reranked": self.rerank,
            "gallery_penalty": self.gallery_penalty,
            "gallery_distractors": self.gallery_distractors or everything,
            "query_penalty": self.query_penalty,
            "query_distractors": self.query_distractors or everything,
        }
        given = {name: value for name, value in chosen.items() if value is not None}
        return advised_ranking(embedder.manifest).model_copy(update=given)

    def embed_distractors(
        self, embedder: Embedder, options: PipelineOptions
    ) -> DistractorSet | Literal["gallery"] | None:
        """Embed the distractors, if there are pictures of them."""
        from index.building.extras import DistractorSet
        from index.gallery.distractors import OWN

        if self.distractors is None:
            return None
        if self.distractors == OWN:
            return OWN
        return DistractorSet.embed(Path(self.distractors), embedder, options)
