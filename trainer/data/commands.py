"""Commands that draw, download and prepare photographs; ``cairn-train`` has them.

Heavy libraries are imported after the arguments are parsed, so that ``--help`` is instant.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from embedder.command_line import Folder, LayoutName, PositiveCount, Share
from embedder.errors import TrainingError

if TYPE_CHECKING:
    from photographs.prepare.copies import CopyRecipe
    from photographs.prepare.split import CountsRecipe

Lists = Annotated[tuple[str, ...], Parameter(name="--list", metavar="CSV")]
Splits = Annotated[
    tuple[Literal["train", "index", "test"], ...], Parameter(metavar="train|index|test")
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SampleSizes:
    """Sizes of a sample set.

    Attributes:
        landmarks: Landmarks.
        pictures: Training pictures of each landmark.
        queries: Queries of each landmark.
        scenes: Queries of no landmark.
        side: Longest side of a picture.
    """

    landmarks: int = 12
    pictures: int = 24
    queries: int = 6
    scenes: int = 24
    side: Annotated[int, Parameter(metavar="PIXELS")] = 256


def draw(
    *,
    out: Folder,
    sizes: SampleSizes = SampleSizes(),
    gldv2: bool = False,
    scale: Annotated[float | None, Parameter(validator=Number(gt=0, lte=1))] = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Draw a sample set of made-up landmarks.

    Args:
        out: Folder of the data set, in the layout of GLDv2.
        sizes: Sizes of the set.
        gldv2: Draw as many pictures and landmarks as GLDv2 has, 48 pixels wide: 2.5 million
            files. The same command goes on with a drawing that was interrupted.
        scale: With --gldv2: share of its counts (default: 1).
        seed: Seed of everything random.
    """
    from photographs.sample import FullSize, write_full_size_set, write_sample_set

    if gldv2:
        if sizes != SampleSizes():
            raise TrainingError("--gldv2 has sizes of its own; only --scale changes them")
        plan = FullSize(1.0 if scale is None else scale, seed)
        return write_full_size_set(out, plan, workers=os.cpu_count() or 1)
    if scale is not None:
        raise TrainingError("--scale: only with --gldv2")
    write_sample_set(out, **asdict(sizes), seed=seed)
    return {"data": str(out)}


def _check_address(_type: object, address: str | None) -> None:
    if address is not None and not address.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")


def _read_numbers(_type: object, tokens: Sequence[Token]) -> tuple[int, ...]:
    """Read numbers such as ``0-9,42``."""
    numbers: set[int] = set()
    try:
        for part in tokens[-1].value.split(","):
            first, dash, last = part.partition("-")
            numbers.update(range(int(first), int(last if dash else first) + 1))
    except ValueError:
        numbers = set()
    if not numbers:
        raise ValueError(f"must be numbers such as 0-9,42, not {tokens[-1].value!r}")
    return tuple(sorted(numbers))


def _read_counts(_type: object, tokens: Sequence[Token]) -> tuple[int, ...]:
    """Read two or three numbers such as ``4497,499,1250``."""
    parts = tokens[-1].value.split(",")
    counts = tuple(int(part) for part in parts if part.strip().isdecimal())
    if len(counts) != len(parts) or not 2 <= len(counts) <= 3 or counts[0] < 2:
        raise ValueError(f"must be like 4497,499 or 4497,499,1250, not {tokens[-1].value!r}")
    return counts


def download(  # noqa: PLR0913 (one for each flag)
    *,
    out: Folder,
    split: Splits = (),
    pictures: Literal["clean", "full"] = "clean",
    tars: Annotated[
        tuple[int, ...] | None, Parameter(converter=_read_numbers, n_tokens=1, metavar="NUMBERS")
    ] = None,
    attribution: bool = False,
    keep_tars: bool = False,
    packed: bool = False,
    connections: PositiveCount = 8,
    attempts: PositiveCount = 6,
    source: Annotated[str | None, Parameter(validator=_check_address, metavar="URL")] = None,
) -> dict[str, Any]:
    """Download Google Landmarks v2: lists, and pictures out of their tars, each checked by its md5.

    A download that was interrupted goes on by the same command.

    Args:
        out: Folder of the data set.
        split: Part of the data set; may be given more than once (default: train).
        pictures: Of the training pictures, those of the clean list or all.
        tars: Which tars of each split, such as 0-9,42 (default: all).
        attribution: Download the authors and licenses of the training pictures too.
        keep_tars: Keep the tars once they are unpacked.
        packed: Leave all pictures in their tars, which are read as they are.
        connections: Files at a time.
        attempts: A file is given up after so many in a row that bring nothing.
        source: Address of the data set (default: the official one).
    """
    from photographs.download.download import DownloadPlan, download
    from photographs.download.published import SOURCE
    from photographs.download.transfer import RetryPolicy

    plan = DownloadPlan(
        splits=tuple(dict.fromkeys(split)) or ("train",),
        pictures=pictures,
        tars=tars,
        attribution=attribution,
        keep_tars=keep_tars,
        packed=packed,
        source=source or SOURCE,
        connections=connections,
    )
    return download(plan, out, RetryPolicy(attempts=attempts))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Selected:
    """Which pictures are taken: each option narrows what the one before it left.

    Attributes:
        only_present: Take only pictures whose file is there.
        at_least: Only landmarks with at least N pictures.
        landmarks: Only the N landmarks with the most pictures.
        pictures: Of each landmark at most N, at random.
        total: N pictures of all, at random.
    """

    only_present: bool = False
    at_least: PositiveCount = 1
    landmarks: Annotated[int | None, Parameter(validator=Number(gte=2), metavar="N")] = None
    pictures: PositiveCount | None = None
    total: PositiveCount | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Copies:
    """How pictures are copied.

    Attributes:
        side: Make pictures so small, upright and without EXIF (default: files are linked).
        shortest: Let --side be the shortest side, not the longest.
        quality: Quality of the smaller JPEGs.
    """

    side: Annotated[int | None, Parameter(validator=Number(gte=1), metavar="PIXELS")] = None
    shortest: bool = False
    quality: PositiveCount = 90

    def recipe(self) -> CopyRecipe | None:
        """Turn the options into a recipe; ``None`` if files are linked."""
        from photographs.prepare.copies import CopyRecipe

        if self.side is None:
            return None
        measure: Literal["shortest", "longest"] = "shortest" if self.shortest else "longest"
        return CopyRecipe(side=self.side, measure=measure, quality=self.quality)


def prepare(  # noqa: PLR0913 (one for each flag)
    *,
    data: Folder,
    out: Folder,
    lists: Lists = (),
    no_queries: bool = False,
    selected: Selected = Selected(),
    folds: Annotated[int | None, Parameter(validator=Number(gte=2), metavar="N")] = None,
    counts: Annotated[
        tuple[int, ...] | None, Parameter(converter=_read_counts, n_tokens=1, metavar="N,N[,N]")
    ] = None,
    seed: int = 0,
    copies: Copies = Copies(),
    workers: PositiveCount | None = None,
    max_unreadable: Share = 0.01,
    layout: LayoutName | None = None,
) -> dict[str, Any]:
    """Make a data folder out of another: fewer and smaller pictures, lists of splits.

    The layout stays the same. A command that was interrupted goes on when it is given again.

    Args:
        data: Folder of photographs.
        out: The new folder.
        lists: List to take pictures from; may be given more than once (default:
            train_clean.csv, else train.csv, else index.csv).
        no_queries: Leave the labeled test pictures out.
        selected: Which pictures.
        folds: Write lists of N folds (default: none).
        counts: Write lists of so many pictures for training, validation and test.
        seed: Seed of everything random.
        copies: How pictures are copied.
        workers: Processes (default: one per core).
        max_unreadable: Stop when more than this share of the pictures cannot be read.
        layout: What the folder of photographs holds (default: the first of these that is found).
    """
    from photographs.prepare.prepare import Parts, Preparation, Selection, prepare

    preparation = Preparation(
        lists=lists,
        selection=Selection(**asdict(selected)),
        parts=Parts(folds=folds or 0, counts=_counts_recipe(counts)),
        copies=copies.recipe(),
        queries=not no_queries,
        seed=seed,
        max_unreadable=max_unreadable,
        layout=layout,
    )
    return prepare(data, out, preparation, workers=workers or os.cpu_count() or 1)


def _counts_recipe(counts: tuple[int, ...] | None) -> CountsRecipe | None:
    from photographs.prepare.split import CountsRecipe

    if counts is None:
        return None
    sizes = dict(zip(("train", "validation", "test"), counts, strict=False))
    return CountsRecipe(kind="counts", **sizes)
