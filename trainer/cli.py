"""The command ``cairn-train``: parse, call one function, print its result.

The result goes to stdout as one line of JSON, everything else to stderr. Heavy libraries are
imported after the arguments are parsed, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedder.command_line import print_line
from trainer.data_commands import add_download, add_prepare

if TYPE_CHECKING:
    from trainer.recipe import EmbedderRecipe

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_INTERRUPTED = 130
_MAX_ANGLE_DEGREES = (
    75.0  # that of trainer.evaluation.denoise, which is too heavy to ask before --help
)
_WITH_BACKBONE = ("weights", "side", "fit", "pooling", "mirrored", "name")
"""Options of ``export`` that say how a pretrained model becomes an embedder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    for talkative in ("faiss", "onnx_ir", "onnxscript", "httpx"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    from embedder.errors import CairnError

    try:
        result = options.command(options)
        return 0 if result is None else print_line(json.dumps(result))
    except CairnError as error:
        print(f"cairn-train: {error}", file=sys.stderr)  # noqa: T201 (the command's own voice)
        return error.exit_code
    except OSError as error:
        print(f"cairn-train: {error}", file=sys.stderr)  # noqa: T201 (the command's own voice)
        return 1
    except KeyboardInterrupt:
        print(f"cairn-train: interrupted{options.again}", file=sys.stderr)  # noqa: T201 (as above)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cairn-train", description="Train an embedder from photographs."
    )
    parser.set_defaults(again="")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train as a recipe says")
    train.add_argument("--recipe", type=Path, required=True, help="YAML file")
    train.add_argument("--data", type=Path, required=True, help="folder of photographs")
    train.add_argument("--out", type=Path, required=True, help="folder of the run")
    train.add_argument("--weights", type=Path, help="safetensors file of the backbone")
    train.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe's value"
    )
    train.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    train.set_defaults(command=_train, again="; go on with --resume")

    _add_export(commands)
    _add_whiten(commands)

    denoise = commands.add_parser(
        "denoise", help="list a run's training pictures without those whose label looks wrong"
    )
    denoise.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    denoise.add_argument("--data", type=Path, required=True, help="folder of photographs")
    denoise.add_argument("--out", type=Path, required=True, help="folder of the list and report")
    denoise.add_argument(
        "--angle",
        type=float,
        default=_MAX_ANGLE_DEGREES,
        metavar="DEGREES",
        help="drop pictures farther from their landmark's dominant sub-center "
        "(default: %(default)s)",
    )
    denoise.add_argument(
        "--truth", metavar="LIST", help="list with the right labels, to judge the result by"
    )
    denoise.set_defaults(command=_denoise)

    draw = commands.add_parser("draw", help="draw a sample set of made-up landmarks")
    draw.add_argument("--out", type=Path, required=True, help="folder, in the layout of GLDv2")
    draw.add_argument("--landmarks", type=int, default=12)
    draw.add_argument("--pictures", type=int, default=24, help="of each landmark")
    draw.add_argument("--queries", type=int, default=6, help="of each landmark")
    draw.add_argument("--scenes", type=int, default=24, help="queries of no landmark")
    draw.add_argument("--side", type=int, default=256, help="pixels")
    draw.add_argument("--seed", type=int, default=0)
    draw.set_defaults(command=_draw)

    add_download(commands)
    add_prepare(commands)
    return parser


def _add_export(commands: _Commands) -> None:
    export = commands.add_parser(
        "export", help="write a run's best network, or a pretrained one, as an embedder"
    )
    export.add_argument(
        "folders", type=Path, metavar="RUN", nargs="*", help="a run; with --ensemble, embedders"
    )
    export.add_argument(
        "--ensemble", type=Path, metavar="FILE", help="recipe that joins several embedders into one"
    )
    export.add_argument(
        "--backbone", metavar="NAME", help="timm's pretrained model of this name, without training"
    )
    export.add_argument(
        "--weights", type=Path, help="with --backbone: safetensors file; default: timm's"
    )
    export.add_argument(
        "--side", type=int, help="with --backbone: pixels; default: as it was pretrained"
    )
    export.add_argument(
        "--fit",
        choices=("squash", "pad", "center-crop"),
        help="with --backbone: how pictures become square; default: as it was pretrained",
    )
    export.add_argument(
        "--pooling",
        choices=("average", "gem", "token"),
        help="with --backbone: mean, generalized mean (p=3) or class token; default: average",
    )
    export.add_argument(
        "--mirrored",
        action="store_true",
        default=None,
        help="with --backbone: the mean of a picture and its mirror image, at twice the time",
    )
    export.add_argument("--name", help="with --backbone: of the embedder; default: the backbone's")
    export.add_argument("--out", type=Path, required=True, help="folder of the embedder")
    export.set_defaults(command=_export)


def _add_whiten(commands: _Commands) -> None:
    whiten = commands.add_parser("whiten", help="add a PCA whitening to an embedder")
    whiten.add_argument("embedder", type=Path, metavar="EMBEDDER")
    whiten.add_argument("--data", type=Path, required=True, help="photographs to learn it from")
    whiten.add_argument("--list", help="list in a GLDv2 folder; default: the clean one if there")
    whiten.add_argument("--out", type=Path, required=True, help="folder of the new embedder")
    whiten.add_argument("--dimension", type=int, help="numbers that are kept; default: all")
    whiten.add_argument(
        "--shrink",
        type=float,
        help="0 whitens fully, 1 (the default) only centers and turns",
    )
    whiten.add_argument(
        "--pictures", type=int, default=20_000, help="learned from at most; default: %(default)s"
    )
    whiten.set_defaults(command=_whiten)


def _train(options: argparse.Namespace) -> dict[str, Any] | None:
    from trainer.distributed import processes
    from trainer.training.allocator import keep_freed_memory

    with processes.process_group():
        if processes.device().type == "cpu":
            keep_freed_memory()
        if not processes.is_first():
            logging.disable(logging.WARNING)
        report = _train_together(options)
        return report if processes.is_first() else None


def _train_together(options: argparse.Namespace) -> dict[str, Any]:
    from photographs import open_data
    from trainer.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.set)
    data = open_data(options.data)
    photographs = data.gallery(recipe.data.list)
    lists = {stage.list: data.gallery(stage.list) for stage in recipe.stages if stage.list}

    from trainer.training.multi_seed import train_networks

    report = train_networks(
        recipe,
        photographs,
        options.out,
        lists=lists,
        weights=options.weights,
        resume=options.resume,
    )
    return {key: value for key, value in report.items() if key != "epochs"}


def _export(options: argparse.Namespace) -> dict[str, Any]:
    from embedder.errors import TrainingError

    folders, backbone = options.folders, options.backbone
    if bool(folders) == bool(backbone) or (backbone and options.ensemble):
        raise TrainingError("name the folder of a run, or a pretrained model by --backbone")
    given = [f"--{name}" for name in _WITH_BACKBONE if getattr(options, name) is not None]
    if folders and given:
        raise TrainingError(f"{', '.join(given)}: only with --backbone")
    if backbone:
        from trainer.export.export import export_backbone

        digest = export_backbone(_backbone_recipe(options), options.out, weights=options.weights)
    elif options.ensemble:
        from trainer.export.ensemble import join

        digest = join(options.ensemble, folders, options.out)
    elif len(folders) > 1:
        raise TrainingError("several runs are exported one by one, and joined by --ensemble FILE")
    else:
        from trainer.export.multi_seed import export_networks

        digest = export_networks(options.folders[0], options.out)
    return {"embedder": str(options.out), "digest": digest}


def _backbone_recipe(options: argparse.Namespace) -> EmbedderRecipe:
    from trainer.model.backbone import pretrained_preprocess
    from trainer.recipe import EmbedderRecipe, validated

    pooling: dict[str, Any] = {"kind": options.pooling or "average"}
    if options.pooling == "gem":
        pooling |= {"p": 3.0, "trained": False}
    embed = pretrained_preprocess(options.backbone, options.side).model_dump()
    content = {
        "name": options.name or options.backbone,
        "network": {"backbone": options.backbone, "pooling": pooling, "neck": {"kind": "none"}},
        "embed": {**embed, "fit": options.fit or embed["fit"]},
        "embed_views": ("plain", "mirrored") if options.mirrored else ("plain",),
    }
    return validated(EmbedderRecipe, content, "the embedder")


def _whiten(options: argparse.Namespace) -> dict[str, Any]:
    from photographs import open_data
    from photographs.prepare.split import random_subset
    from trainer.recipe import WhitenRecipe, validated

    given = {name: getattr(options, name) for name in ("dimension", "shrink")}
    asked = {name: value for name, value in given.items() if value is not None}
    recipe = validated(WhitenRecipe, asked, "the whitening")
    photographs = open_data(options.data).gallery(options.list)
    photographs = random_subset(photographs, options.pictures, seed=0)
    from trainer.export.whiten import whiten

    digest = whiten(options.embedder, photographs, recipe, options.out)
    return {"embedder": str(options.out), "digest": digest}


def _denoise(options: argparse.Namespace) -> dict[str, Any]:
    from photographs import open_data
    from trainer.recipe import load_recipe

    data = open_data(options.data)
    recipe = load_recipe(options.run / "recipe.yaml")
    photographs = data.gallery(recipe.stages[-1].list or recipe.data.list)  # what the head learned
    truths = None
    if options.truth:
        truths = {p.id: p.landmark_id for p in data.gallery(options.truth)}

    from trainer.evaluation.denoise import denoise

    report = denoise(
        options.run, photographs, options.out, max_angle_degrees=options.angle, truths=truths
    )
    return {
        key: value for key, value in report.items() if key not in ("angles", "dropped_pictures")
    }


def _draw(options: argparse.Namespace) -> dict[str, Any]:
    from photographs.sample import write_sample_set

    write_sample_set(
        options.out,
        landmarks=options.landmarks,
        pictures=options.pictures,
        queries=options.queries,
        scenes=options.scenes,
        seed=options.seed,
        side=options.side,
    )
    return {"data": str(options.out)}
