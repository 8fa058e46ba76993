"""The command ``cairn-index``: parse, call one function, print its result.

The result goes to stdout as one line of JSON, everything else to stderr. Heavy libraries are
imported after the arguments are parsed, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embedder.command_line import print_line

if TYPE_CHECKING:
    from embedder.embedder import Embedder
    from index.building.embedder_choice import EmbedderChoice
    from index.building.extras import DistractorSet
    from index.building.pipeline import PipelineOptions
    from index.building.recipe import BuildRecipe
    from index.gallery.gallery import Gallery
    from index.gallery.manifest import GalleryManifest
    from index.ranking.ranking import Ranking

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_INTERRUPTED = 130
_PRECISION_TARGET = 0.95  # that of index.evaluation.calibrate, likewise
_BATCH_PICTURES = 16  # that of index.building.pipeline, which is too heavy to ask before --help
_SAMPLE = 64  # that of index.maintenance.verify, likewise
_MOST_THUMBNAIL_SIDE = 512  # larger ones would be copies of the photographs
_KEEP, _IDLE_HOURS = 3, 24.0  # those of index.maintenance.history, likewise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it tells which build of it loads
    from embedder.errors import CairnError

    try:
        return print_line(json.dumps(asked.command(asked)))
    except CairnError as error:
        print(f"cairn-index: {error}", file=sys.stderr)  # noqa: T201 (the command's own voice)
        return error.exit_code
    except OSError as error:
        print(f"cairn-index: {error}", file=sys.stderr)  # noqa: T201 (the command's own voice)
        return 1
    except KeyboardInterrupt:
        again = "; the same command goes on from here" if asked.resumes else ""
        print(f"cairn-index: interrupted{again}", file=sys.stderr)  # noqa: T201 (as above)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cairn-index", description="Make galleries of photographs, and ask them."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = _add(commands, "build", _build, "embed photographs and publish them as a gallery")
    _add_data(build)
    _add_gallery(build, "train_clean.csv, else train.csv, else index.csv")
    _add_thumbnails(build, "none")
    _add_ranking(build)
    _add_life(commands)

    predict = _add(commands, "predict", _predict, "answer pictures and write a submission")
    predict.add_argument(
        "--pictures",
        type=Path,
        required=True,
        metavar="DIR_OR_LIST",
        help="folder that is walked, or a list of ids or paths",
    )
    predict.add_argument(
        "--out", type=Path, required=True, metavar="CSV", help="the submission to write"
    )

    evaluate = _add(commands, "evaluate", _evaluate, "judge a gallery by labeled queries")
    _add_data(evaluate)
    evaluate.add_argument(
        "--report",
        type=Path,
        metavar="HTML",
        help="write a page with the figures and the worst mistakes beside their neighbors",
    )

    calibrate = _add(
        commands,
        "calibrate",
        _calibrate,
        "learn from labeled queries what a confidence is worth, and publish that",
    )
    _add_data(calibrate)
    calibrate.add_argument(
        "--precision-target",
        type=_inner_share,
        default=_PRECISION_TARGET,
        metavar="SHARE",
        help="of the answers above the threshold, the share that shall be right "
        "(default: %(default)s)",
    )
    return parser


def _add_life(commands: _Commands) -> None:
    """Add the commands of a gallery that grows and changes."""
    rebuild = _add(
        commands, "rebuild", _rebuild, "bring the gallery up to date, embedding only what changed"
    )
    rebuild.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="where the photographs are now, once for each folder of the gallery, in the order "
        "in which they were added (default: where they were)",
    )
    _add_gallery(rebuild, "the gallery's own")
    _add_thumbnails(rebuild, "as the gallery has them; for others every picture is read")
    rebuild.add_argument(
        "--hash",
        action="store_true",
        help="read every file: find pictures that changed and kept their size and time",
    )

    add = _add(commands, "add", _extend, "add a folder of photographs to the gallery")
    _add_data(add)
    _add_gallery(add, "train_clean.csv, else train.csv, else index.csv")

    remove = _add_plain(commands, "remove", _remove, "take pictures or landmarks out for good")
    remove.add_argument("--pictures", nargs="+", default=[], metavar="ID", help="their ids")
    remove.add_argument("--landmarks", nargs="+", default=[], metavar="ID", help="their ids")

    _add_plain(commands, "list", _list, "show the builds of a store")

    verify = _add_plain(commands, "verify", _verify, "prove a build: bytes, counts and vectors")
    verify.add_argument(
        "--embedder",
        type=Path,
        metavar="DIR",
        help="embed a sample again and compare (default: only read and count)",
    )
    _add_running(verify)
    verify.add_argument(
        "--sample",
        type=_positive,
        default=_SAMPLE,
        metavar="N",
        help="pictures that are embedded again (default: %(default)s)",
    )
    rollback = _add_plain(commands, "rollback", _rollback, "publish an earlier build again")
    for parser, default in ((verify, "the published one"), (rollback, "the one before")):
        parser.add_argument("--build", metavar="ID", help=f"which build (default: {default})")

    clean = _add_plain(commands, "gc", _clean, "delete old builds and abandoned work")
    clean.add_argument(
        "--keep",
        type=_positive,
        default=_KEEP,
        metavar="N",
        help="newest builds that stay, beside the published one (default: %(default)s)",
    )
    clean.add_argument(
        "--idle-hours",
        type=float,
        default=_IDLE_HOURS,
        metavar="H",
        help="an unfinished build is abandoned after so long (default: %(default)s)",
    )


def _add(
    commands: _Commands, name: str, command: Callable[[argparse.Namespace], object], summary: str
) -> argparse.ArgumentParser:
    """Add a command with what most of them take: a store, an embedder, and how to run it."""
    parser = _add_plain(commands, name, command, summary)
    parser.set_defaults(resumes=command in (_build, _rebuild, _extend))
    parser.add_argument(
        "--embedder", type=Path, required=True, metavar="DIR", help="the embedder artifact"
    )
    _add_running(parser)
    parser.add_argument(
        "--batch-size",
        type=_positive,
        default=_BATCH_PICTURES,
        metavar="N",
        help="pictures that the network gets at once (default: %(default)s)",
    )
    return parser


def _add_plain(
    commands: _Commands, name: str, command: Callable[[argparse.Namespace], object], summary: str
) -> argparse.ArgumentParser:
    """Add a command with what all of them take: a store."""
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=command, resumes=False)
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="galleries")
    return parser


def _add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="what runs the network (default: %(default)s, an NVIDIA GPU if there is one)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "f32", "bf16"),
        default="auto",
        help="arithmetic of the network (default: %(default)s, bf16 where it is exact enough)",
    )
    parser.add_argument(
        "--threads",
        type=_count,
        default=0,
        metavar="N",
        help="CPU threads for the network, decoding and search (default: one per core)",
    )


def _add_gallery(parser: argparse.ArgumentParser, default_list: str) -> None:
    parser.add_argument(
        "--list",
        metavar="NAME",
        help=f"list of the data folder that is the gallery (default: {default_list})",
    )
    parser.add_argument(
        "--max-unreadable",
        type=_share,
        metavar="SHARE",
        help="stop when more than this share "
        "of the pictures cannot be read (default: 0.01, or 5 pictures if that is more)",
    )
    parser.add_argument(
        "--kind",
        metavar="KIND",
        help="exact (every vector compared in fp16), fastscan (by 4-bit codes, the best in fp16), "
        "a factory string of FAISS for a first look of your own, or auto: exact up to 100,000 "
        "pictures and on a GPU that holds them, fastscan above (default: auto, or the kind that "
        "was asked for when the gallery was built)",
    )
    parser.add_argument(
        "--min-recall",
        type=_share,
        metavar="FLOOR",
        help="publish nothing whose recall@1 against exact answers is lower (default: any)",
    )


def _add_thumbnails(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--thumbnails",
        type=_thumbnail_side,
        metavar="SIDE",
        help="keep a small JPEG of each picture in the gallery, for people who look at answers: "
        f"no side longer than SIDE pixels, at most {_MOST_THUMBNAIL_SIDE}; 0 keeps none "
        f"(default: {default})",
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="photographs: files of Google Landmarks v2, or one folder per landmark",
    )


def _add_ranking(parser: argparse.ArgumentParser) -> None:
    ranking = parser.add_argument_group("ranking", "how neighbors become an answer")
    ranking.add_argument(
        "--ranking",
        choices=("top1", "vote"),
        help="the nearest picture, or a vote of the nearest few (default: what the embedder "
        "advises, else top1)",
    )
    ranking.add_argument(
        "--vote-neighbors",
        type=_positive,
        metavar="K",
        help="how many vote (default: likewise, or 5)",
    )
    ranking.add_argument(
        "--vote-power",
        type=_above_zero,
        metavar="P",
        help="a vote counts its cosine to this power (default: likewise, or 8)",
    )
    ranking.add_argument(
        "--distractors",
        metavar="DIR_OR_LIST",
        help="pictures of no landmark: what looks like them is believed less; 'gallery' takes "
        "the centers of the gallery's own landmarks, for want of such pictures",
    )
    ranking.add_argument(
        "--gallery-penalty",
        type=_strength,
        default=0.0,
        metavar="W",
        help="subtract W times its likeness to distractors from each gallery picture's "
        "similarity; 1 is the published strength (default: 0)",
    )
    ranking.add_argument(
        "--query-penalty",
        type=_strength,
        default=0.0,
        metavar="W",
        help="subtract W times its likeness to distractors from each query's confidence; "
        "1 is the published strength, and calibrate learns it (default: 0)",
    )
    ranking.add_argument(
        "--gallery-distractors",
        type=_positive,
        metavar="N",
        help="distractors that a gallery picture is compared with: the N nearest "
        "(default: 5 pictures, or all centers)",
    )
    ranking.add_argument(
        "--query-distractors",
        type=_positive,
        metavar="N",
        help="the same for a query; a large N takes all (default: 10 pictures, or all centers)",
    )


def _strength(text: str) -> float:
    strength = float(text)
    if not 0 <= strength < math.inf:
        raise ValueError
    return strength


def _above_zero(text: str) -> float:
    number = _strength(text)
    if not number:
        raise ValueError
    return number


def _inner_share(text: str) -> float:
    share = float(text)
    if not 0 < share < 1:
        raise ValueError
    return share


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError
    return share


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError
    return count


def _thumbnail_side(text: str) -> int:
    side = _count(text)
    if side > _MOST_THUMBNAIL_SIDE:
        raise ValueError
    return side


def _positive(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError
    return count


def _build(asked: argparse.Namespace) -> dict[str, object]:
    from index.building.build import build
    from index.building.extras import Extras
    from index.gallery.store import Store
    from photographs import open_data

    data = open_data(asked.data)
    _check_distractors(asked)
    with closing(_load_embedder(asked)) as embedder:
        extras = Extras(_ranking(asked, embedder), _distractors(asked, embedder))
        recipe = replace(_recipe(asked), extras=extras, thumbnail_side=asked.thumbnails)
        return _describe(asked, build(Store(asked.store), embedder, data, recipe))


def _rebuild(asked: argparse.Namespace) -> dict[str, object]:
    from index.building.rebuild import rebuild
    from index.gallery.store import Store

    manifest = rebuild(
        Store(asked.store),
        _choose_embedder(asked),
        replace(_recipe(asked), thumbnail_side=asked.thumbnails),
        data=asked.data,
        by_content=asked.hash,
    )
    return _describe(asked, manifest)


def _extend(asked: argparse.Namespace) -> dict[str, object]:
    from index.gallery.store import Store
    from index.maintenance.add import add
    from photographs import open_data

    data = open_data(asked.data)
    manifest = add(Store(asked.store), _choose_embedder(asked), data, _recipe(asked))
    return _describe(asked, manifest)


def _remove(asked: argparse.Namespace) -> dict[str, object]:
    from index.gallery.store import Store
    from index.maintenance.remove import remove

    manifest = remove(Store(asked.store), pictures=asked.pictures, landmarks=asked.landmarks)
    return _describe(asked, manifest)


def _list(asked: argparse.Namespace) -> dict[str, object]:
    from index.gallery.store import Store
    from index.maintenance.history import list_builds

    builds = list_builds(Store(asked.store))
    return {
        "current": next((build.build_id for build in builds if build.current), None),
        "builds": [build.summary() for build in builds],
    }


def _verify(asked: argparse.Namespace) -> dict[str, object]:
    from contextlib import nullcontext
    from dataclasses import asdict

    from index.gallery.store import Store
    from index.maintenance.verify import verify

    with closing(_load_embedder(asked)) if asked.embedder else nullcontext() as embedder:
        found = verify(Store(asked.store), embedder, build_id=asked.build, sample=asked.sample)
    return asdict(found)


def _rollback(asked: argparse.Namespace) -> dict[str, object]:
    from index.gallery.store import Store
    from index.maintenance.history import roll_back

    return _describe(asked, roll_back(Store(asked.store), asked.build))


def _clean(asked: argparse.Namespace) -> dict[str, object]:
    from dataclasses import asdict

    from index.gallery.store import Store
    from index.maintenance.history import clean

    return asdict(clean(Store(asked.store), keep=asked.keep, idle_hours=asked.idle_hours))


def _recipe(asked: argparse.Namespace) -> BuildRecipe:
    from index.building.recipe import BuildRecipe

    return BuildRecipe(
        asked.list,
        asked.max_unreadable,
        _pipeline(asked),
        kind=asked.kind,
        min_recall=asked.min_recall,
    )


def _pipeline(asked: argparse.Namespace) -> PipelineOptions:
    from index.building.pipeline import PipelineOptions

    return PipelineOptions(asked.batch_size, asked.threads)


def _choose_embedder(asked: argparse.Namespace) -> EmbedderChoice:
    from index.building.embedder_choice import EmbedderChoice

    return EmbedderChoice(asked.embedder, asked.device, asked.precision, asked.threads)


def _describe(asked: argparse.Namespace, manifest: GalleryManifest) -> dict[str, object]:
    from index.gallery.store import Store

    shown = {"build_id", "kind", "rows", "removed", "landmarks", "dimension"}
    shown |= {"recall", "thumbnail_side", "unreadable"}
    return {
        **manifest.model_dump(mode="json", include=shown),
        "list": manifest.list.name,
        "embedder": manifest.embedder.digest,
        "gallery": str(Store(asked.store).directory(manifest.build_id)),
    }


def _check_distractors(asked: argparse.Namespace) -> None:
    from embedder.errors import GalleryError
    from index.gallery.distractors import OWN

    if asked.distractors == OWN and Path(OWN).is_dir():
        raise GalleryError(
            f"--distractors {OWN} means the gallery's own landmarks, and there is a folder of that "
            f"name here: write ./{OWN} for the folder, or rename it"
        )
    if (asked.gallery_penalty or asked.query_penalty) and asked.distractors is None:
        raise GalleryError("a penalty needs pictures of no landmark: give them as --distractors")


def _ranking(asked: argparse.Namespace, embedder: Embedder) -> Ranking:
    """Take what is asked for, and of the rest what the embedder advises."""
    from index.building.extras import advised_ranking
    from index.gallery.distractors import MOST_LANDMARKS, OWN

    everything = MOST_LANDMARKS if asked.distractors == OWN else None
    chosen = {
        "rule": asked.ranking,
        "neighbors": asked.vote_neighbors,
        "power": asked.vote_power,
        "gallery_penalty": asked.gallery_penalty,
        "gallery_distractors": asked.gallery_distractors or everything,
        "query_penalty": asked.query_penalty,
        "query_distractors": asked.query_distractors or everything,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    return advised_ranking(embedder.manifest).model_copy(update=given)


def _distractors(
    asked: argparse.Namespace, embedder: Embedder
) -> DistractorSet | Literal["gallery"] | None:
    from index.building.extras import DistractorSet
    from index.gallery.distractors import OWN

    if asked.distractors is None:
        return None
    if asked.distractors == OWN:
        return OWN
    source = Path(asked.distractors)
    return DistractorSet.embed(source, embedder, _pipeline(asked))


def _predict(asked: argparse.Namespace) -> dict[str, object]:
    from index.evaluation.predict import predict
    from photographs import list_pictures

    pictures = list_pictures(asked.pictures)
    with closing(_load_embedder(asked)) as embedder, closing(_open(asked, embedder)) as gallery:
        written = predict(
            gallery,
            embedder,
            pictures,
            asked.out,
            _pipeline(asked),
        )
        return {
            "submission": str(written.path),
            "report": str(written.report),
            "queries": written.queries,
            "unreadable": written.unreadable,
            "build_id": gallery.build_id,
        }


def _evaluate(asked: argparse.Namespace) -> dict[str, object]:
    from dataclasses import asdict

    from index.evaluation.evaluate import evaluate
    from index.evaluation.report import write_report
    from photographs import open_data

    data = open_data(asked.data)
    with closing(_load_embedder(asked)) as embedder, closing(_open(asked, embedder)) as gallery:
        evaluation, answered = evaluate(
            gallery,
            embedder,
            data,
            _pipeline(asked),
        )
        if asked.report is not None:
            write_report(asked.report, gallery, evaluation, answered)
    return asdict(evaluation)


def _calibrate(asked: argparse.Namespace) -> dict[str, object]:
    from index.evaluation.calibrate import calibrate
    from index.gallery.store import Store
    from photographs import open_data

    data = open_data(asked.data)
    with closing(_load_embedder(asked)) as embedder:
        manifest = calibrate(
            Store(asked.store),
            embedder,
            data,
            _pipeline(asked),
            precision_target=asked.precision_target,
        )
    shown = {"build_id", "ranking", "calibration"}
    return manifest.model_dump(mode="json", include=shown)


def _load_embedder(asked: argparse.Namespace) -> Embedder:
    from embedder.embedder import Embedder

    return Embedder.load(
        asked.embedder, device=asked.device, precision=asked.precision, threads=asked.threads
    )


def _open(asked: argparse.Namespace, embedder: Embedder) -> Gallery:
    from index.gallery.gallery import Gallery

    return Gallery.open(
        asked.store,
        embedder_digest=embedder.digest,
        threads=asked.threads,
        device=embedder.device,
    )
