"""The command ``cairn-index``: parse, call one function, print its result.

The result goes to stdout as one line of JSON, everything else to stderr. Heavy libraries are
imported after the arguments are parsed, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedder.embedder import Embedder
    from index.gallery import Gallery

_INTERRUPTED = 130
_BATCH_PICTURES = 16  # that of index.stream, which is too heavy to ask before --help


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it tells which build of it loads
    from embedder.errors import CairnError

    try:
        result = asked.command(asked)
    except CairnError as error:
        print(f"cairn-index: {error}", file=sys.stderr)  # noqa: T201 (the command's own voice)
        return error.exit_code
    except OSError as error:
        print(f"cairn-index: {error}", file=sys.stderr)  # noqa: T201 (the command's own voice)
        return 1
    except KeyboardInterrupt:
        again = "; the same command goes on from here" if asked.command is _build else ""
        print(f"cairn-index: interrupted{again}", file=sys.stderr)  # noqa: T201 (as above)
        return _INTERRUPTED
    print(json.dumps(result))  # noqa: T201 (the result)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cairn-index", description="Make galleries of photographs, and ask them."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = _add(commands, "build", _build, "embed photographs and publish them as a gallery")
    _add_data(build)
    build.add_argument(
        "--list",
        metavar="NAME",
        help="list of the data folder that is the gallery "
        "(default: train_clean.csv, else train.csv, else index.csv)",
    )
    build.add_argument(
        "--max-unreadable",
        type=_share,
        metavar="SHARE",
        help="stop when more than this share "
        "of the pictures cannot be read (default: 0.01, or 5 pictures if that is more)",
    )

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
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    command: Callable[[argparse.Namespace], object],
    summary: str,
) -> argparse.ArgumentParser:
    """Add a command with what all of them take: a store, an embedder, and how to run it."""
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=command)
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="galleries")
    parser.add_argument(
        "--embedder", type=Path, required=True, metavar="DIR", help="the embedder artifact"
    )
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
    parser.add_argument(
        "--batch-size",
        type=_positive,
        default=_BATCH_PICTURES,
        metavar="N",
        help="pictures that the network gets at once (default: %(default)s)",
    )
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="photographs: files of Google Landmarks v2, or one folder per landmark",
    )


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


def _positive(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError
    return count


def _build(asked: argparse.Namespace) -> dict[str, object]:
    from embedder.photographs import open_data
    from index.build import BuildRecipe, build
    from index.store import Store

    data, store = open_data(asked.data), Store(asked.store)
    recipe = BuildRecipe(asked.list, asked.max_unreadable, asked.batch_size, asked.threads)
    with closing(_load_embedder(asked)) as embedder:
        manifest = build(store, embedder, data, recipe)
    shown = {"build_id", "kind", "rows", "landmarks", "dimension", "unreadable"}
    return {
        **manifest.model_dump(mode="json", include=shown),
        "list": manifest.list.name,
        "embedder": manifest.embedder.digest,
        "gallery": str(store.directory(manifest.build_id)),
    }


def _predict(asked: argparse.Namespace) -> dict[str, object]:
    from embedder.photographs import list_pictures
    from index.predict import predict

    pictures = list_pictures(asked.pictures)
    with closing(_load_embedder(asked)) as embedder, closing(_open(asked, embedder)) as gallery:
        written = predict(
            gallery,
            embedder,
            pictures,
            asked.out,
            batch_pictures=asked.batch_size,
            readers=asked.threads,
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

    from embedder.photographs import open_data
    from index.evaluate import evaluate

    data = open_data(asked.data)
    with closing(_load_embedder(asked)) as embedder, closing(_open(asked, embedder)) as gallery:
        found = evaluate(
            gallery,
            embedder,
            data,
            batch_pictures=asked.batch_size,
            readers=asked.threads,
        )
    return asdict(found)


def _load_embedder(asked: argparse.Namespace) -> Embedder:
    from embedder.embedder import Embedder

    return Embedder.load(
        asked.embedder, device=asked.device, precision=asked.precision, threads=asked.threads
    )


def _open(asked: argparse.Namespace, embedder: Embedder) -> Gallery:
    from index.gallery import Gallery

    return Gallery.open(asked.store, embedder_digest=embedder.digest, threads=asked.threads)


if __name__ == "__main__":
    sys.exit(main())
