"""The commands that bring and prepare photographs: their options, and the call of one function.

Nothing heavy is imported before a command runs, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_AGAIN = "; the same command goes on from here"


def add_download(commands: _Commands) -> None:
    """Add the command that brings Google Landmarks v2."""
    download = commands.add_parser(
        "download",
        help="bring Google Landmarks v2 onto the disk",
        description="Bring Google Landmarks v2 onto the disk: lists, and pictures out of their "
        "tars, each proved by its md5. What was cut off goes on by the same command.",
    )
    download.add_argument("--out", type=Path, required=True, help="folder of the data set")
    download.add_argument(
        "--split",
        action="append",
        choices=["train", "index", "test"],
        help="part of the data set; may be given more than once (default: train)",
    )
    download.add_argument(
        "--pictures",
        choices=["clean", "full"],
        default="clean",
        help="of the training pictures, those of the clean list or all (default: clean)",
    )
    download.add_argument(
        "--tars",
        type=_numbers,
        metavar="NUMBERS",
        help="which tars of each split, such as 0-9,42 (default: all)",
    )
    download.add_argument(
        "--attribution",
        action="store_true",
        help="bring the authors and licenses of the training pictures too",
    )
    download.add_argument("--keep-tars", action="store_true", help="keep them once unpacked")
    download.add_argument(
        "--connections", type=_positive, default=8, help="files at a time (default: 8)"
    )
    download.add_argument(
        "--attempts",
        type=_positive,
        default=6,
        help="in a row that bring nothing, before a file is given up (default: 6)",
    )
    download.add_argument(
        "--source", type=_web_address, help="address of the data set (default: the official one)"
    )
    download.set_defaults(command=_download, again=_AGAIN)


def add_prepare(commands: _Commands) -> None:
    """Add the command that makes a data folder out of another."""
    prepare = commands.add_parser(
        "prepare",
        help="make a data folder out of another: fewer and smaller pictures, lists of parts",
        description="Make a data folder out of another, in the same layout. Each choice narrows "
        "what the one before it left. What was cut off goes on by the same command.",
    )
    prepare.add_argument("--data", type=Path, required=True, help="folder of photographs")
    prepare.add_argument("--out", type=Path, required=True, help="the new folder")
    prepare.add_argument(
        "--list",
        action="append",
        default=[],
        metavar="CSV",
        help="which list to take pictures from; may be given more than once "
        "(default: train_clean.csv, else train.csv, else index.csv)",
    )
    prepare.add_argument(
        "--no-queries", action="store_true", help="leave the labeled test pictures out"
    )
    _add_choice(prepare)
    _add_copies(prepare)
    prepare.set_defaults(command=_prepare, again=_AGAIN)


def _add_choice(prepare: argparse.ArgumentParser) -> None:
    """Add which pictures are taken, and which parts of them get lists."""
    add = prepare.add_argument
    add("--only-present", action="store_true", help="take only pictures whose file is there")
    add("--at-least", type=_positive, default=1, metavar="N", help="pictures of a landmark")
    add("--landmarks", type=_several, metavar="N", help="only the N with the most pictures")
    add("--pictures", type=_positive, metavar="N", help="of each landmark at most N, at random")
    add("--total", type=_positive, metavar="N", help="N pictures of all, at random")
    add("--folds", type=_positive, default=0, metavar="N", help="write lists of N folds")
    add(
        "--counts",
        type=_counts,
        metavar="N,N[,N]",
        help="write lists of so many pictures for training, validation and test",
    )
    add("--seed", type=int, default=0, help="of everything random (default: 0)")


def _add_copies(prepare: argparse.ArgumentParser) -> None:
    """Add how pictures are copied."""
    add = prepare.add_argument
    add(
        "--side",
        type=_positive,
        metavar="PIXELS",
        help="make pictures so small, upright and without EXIF; by default files are linked",
    )
    add("--shortest", action="store_true", help="--side is the shortest side, not the longest")
    add("--quality", type=_positive, default=90, help="of the smaller JPEGs (default: 90)")
    add("--workers", type=_positive, default=os.cpu_count() or 1, help="processes")
    add(
        "--max-unreadable",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="of the pictures that may be unreadable before it stops (default: 0.01)",
    )


def _counts(text: str) -> tuple[int, ...]:
    """Read two or three numbers such as ``4497,499,1250``."""
    counts = tuple(int(part) for part in text.split(","))
    if not 2 <= len(counts) <= 3 or counts[0] < 2 or min(counts) < 0:
        raise ValueError(text)
    return counts


def _numbers(text: str) -> tuple[int, ...]:
    """Read numbers such as ``0-9,42``."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        numbers.update(range(int(first), int(last if dash else first) + 1))
    if not numbers:
        raise ValueError(text)
    return tuple(sorted(numbers))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _several(text: str) -> int:
    number = _positive(text)
    if number < 2:
        raise ValueError(text)
    return number


def _web_address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with http:// or https://")
    return text


def _download(options: argparse.Namespace) -> dict[str, Any]:
    from photographs.download.download import DownloadPlan, download
    from photographs.download.published import SOURCE
    from photographs.download.transfer import RetryPolicy

    plan = DownloadPlan(
        splits=tuple(dict.fromkeys(options.split or ["train"])),
        pictures=options.pictures,
        tars=options.tars,
        attribution=options.attribution,
        keep_tars=options.keep_tars,
        source=options.source or SOURCE,
        connections=options.connections,
    )
    return download(plan, options.out, RetryPolicy(attempts=options.attempts))


def _prepare(options: argparse.Namespace) -> dict[str, Any]:
    from photographs.prepare.copies import CopyRecipe
    from photographs.prepare.prepare import Parts, Preparation, Selection, prepare
    from photographs.prepare.split import CountsRecipe

    counts, copies = None, None
    if options.counts:
        sizes = dict(zip(("train", "validation", "test"), options.counts, strict=False))
        counts = CountsRecipe(kind="counts", **sizes)
    if options.side:
        measure: Literal["shortest", "longest"] = "shortest" if options.shortest else "longest"
        copies = CopyRecipe(side=options.side, measure=measure, quality=options.quality)
    preparation = Preparation(
        lists=tuple(options.list),
        selection=Selection(
            only_present=options.only_present,
            at_least=options.at_least,
            landmarks=options.landmarks,
            pictures=options.pictures,
            total=options.total,
        ),
        parts=Parts(folds=options.folds, counts=counts),
        copies=copies,
        queries=not options.no_queries,
        seed=options.seed,
        max_unreadable=options.max_unreadable,
    )
    return prepare(options.data, options.out, preparation, workers=options.workers)
