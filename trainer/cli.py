"""The command ``cairn-train``: parse, call one function, print its result.

Heavy libraries are imported after the arguments are parsed, so that ``--help`` is instant.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from embedder.command_line import RESUMABLE, Folder, LayoutName, command_app, run
from embedder.errors import TrainingError
from trainer.data.commands import download, draw, prepare
from trainer.evaluation.defaults import MAX_ANGLE_DEGREES

if TYPE_CHECKING:
    from trainer.recipe import EmbedderRecipe

Result = dict[str, Any]
Text = Annotated[str | None, Parameter(metavar="NAME")]

app = command_app("cairn-train", "Prepare photographs, and train an embedder from them.")
for command in (draw, download, prepare):
    app.command(command)


@app.command
def train(  # noqa: PLR0913 (one for each flag)
    *,
    recipe: Path,
    data: Folder,
    out: Folder,
    weights: Path | None = None,
    init_from: Annotated[Path | None, Parameter(metavar="RUN")] = None,
    overrides: Annotated[tuple[str, ...], Parameter(name="--set", metavar="KEY=VALUE")] = (),
    resume: bool = False,
    layout: LayoutName | None = None,
) -> Result | None:
    """Train as a recipe says.

    Args:
        recipe: YAML file.
        data: Folder of photographs.
        out: Folder of the run.
        weights: File of the backbone's weights, safetensors or .pth (default: timm's).
        init_from: Folder of another run: start from its network, and from its head where it
            knows the same landmarks.
        overrides: Override a value of the recipe; may be given more than once.
        resume: Go on with an interrupted run.
        layout: What the folder of photographs holds (default: the first of these that is found).
    """
    if init_from and (weights or not init_from.is_dir()):
        raise TrainingError("--init-from names the folder of a run, and replaces --weights")
    from trainer.distributed import processes
    from trainer.training.allocator import keep_freed_memory

    with processes.process_group():
        if processes.device().type == "cpu":
            keep_freed_memory()
        if not processes.is_first():
            logging.disable(logging.WARNING)

        from photographs import open_data
        from trainer.recipe import load_recipe
        from trainer.training.multi_seed import train_networks

        asked, folder = load_recipe(recipe, list(overrides)), open_data(data, layout)
        report = train_networks(
            asked,
            folder.gallery(asked.data.list),
            out,
            lists={stage.list: folder.gallery(stage.list) for stage in asked.stages if stage.list},
            weights=init_from or weights,
            resume=resume,
        )
        if not processes.is_first():
            return None
        return {key: value for key, value in report.items() if key != "epochs"}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """How a pretrained model becomes an embedder.

    Attributes:
        backbone: Export timm's pretrained model of this name, without training.
        weights: With --backbone: file of its weights, safetensors or .pth (default: timm's).
        side: With --backbone: side of its pictures in pixels (default: as it was pretrained).
        fit: With --backbone: how pictures become square (default: as it was pretrained).
        pooling: With --backbone: mean, generalized mean (p=3) or class token (default: average).
        mirrored: With --backbone: embed the mean of a picture and its mirror image, at twice the
            time.
        name: With --backbone: name of the embedder (default: the backbone's).
    """

    backbone: Text = None
    weights: Path | None = None
    side: Annotated[int | None, Parameter(metavar="PIXELS")] = None
    fit: Literal["squash", "pad", "center-crop"] | None = None
    pooling: Literal["average", "gem", "token"] | None = None
    mirrored: bool = False
    name: Text = None

    def given(self) -> list[str]:
        """Return the flags that need ``--backbone``."""
        return [f"--{key}" for key, value in asdict(self).items() if value and key != "backbone"]

    def recipe(self) -> EmbedderRecipe:
        """Turn the options into a recipe."""
        from trainer.model.backbone import pretrained_preprocess
        from trainer.recipe import EmbedderRecipe, validated

        pooling: dict[str, Any] = {"kind": self.pooling or "average"}
        if self.pooling == "gem":
            pooling |= {"p": 3.0, "trained": False}
        embed = pretrained_preprocess(self.backbone or "", self.side).model_dump()
        network = {"backbone": self.backbone, "pooling": pooling, "neck": {"kind": "none"}}
        content = {
            "name": self.name or self.backbone,
            "network": network,
            "embed": {**embed, "fit": self.fit or embed["fit"]},
            "embed_views": ("plain", "mirrored") if self.mirrored else ("plain",),
        }
        return validated(EmbedderRecipe, content, "the embedder")


@app.command
def export(
    *folders: Annotated[Path, Parameter(metavar="RUN...")],
    out: Folder,
    ensemble: Path | None = None,
    pretrained: Pretrained = Pretrained(),
) -> Result:
    """Write a run's best network, or a pretrained one, as an embedder.

    Args:
        folders: A run; with --ensemble, embedders.
        out: Folder of the embedder.
        ensemble: Recipe that joins several embedders into one.
        pretrained: Model without training.
    """
    backbone = pretrained.backbone
    if bool(folders) == bool(backbone) or (backbone and ensemble):
        raise TrainingError("name the folder of a run, or a pretrained model by --backbone")
    if folders and (given := pretrained.given()):
        raise TrainingError(f"{', '.join(given)}: only with --backbone")
    if backbone:
        from trainer.export.export import export_backbone

        digest = export_backbone(pretrained.recipe(), out, weights=pretrained.weights)
    elif ensemble:
        from trainer.export.ensemble import join

        digest = join(ensemble, list(folders), out)
    elif len(folders) > 1:
        raise TrainingError("several runs are exported one by one, and joined by --ensemble FILE")
    else:
        from trainer.export.export import export_networks

        digest = export_networks(folders[0], out)
    return {"embedder": str(out), "digest": digest}


@app.command
def whiten(  # noqa: PLR0913 (one for each flag)
    embedder: Annotated[Path, Parameter(metavar="EMBEDDER")],
    /,
    *,
    data: Folder,
    out: Folder,
    list_name: Annotated[str | None, Parameter(name="--list", metavar="NAME")] = None,
    dimension: Annotated[int | None, Parameter(metavar="N")] = None,
    shrink: float | None = None,
    pictures: Annotated[int, Parameter(metavar="N")] = 20_000,
    layout: LayoutName | None = None,
) -> Result:
    """Add a PCA whitening to an embedder.

    Args:
        embedder: The embedder; it stays as it is.
        data: Photographs to fit the whitening to.
        out: Folder of the new embedder.
        list_name: List in a GLDv2 folder (default: the clean one if there).
        dimension: Dimensions that are kept (default: all).
        shrink: 0 whitens fully, 1 only centers and rotates (default: 1).
        pictures: Fit to at most so many, drawn at random.
        layout: What the folder of photographs holds (default: the first of these that is found).
    """
    from photographs import open_data
    from photographs.prepare.split import random_subset
    from trainer.recipe import WhitenRecipe, validated

    options = {"dimension": dimension, "shrink": shrink}
    given = {name: value for name, value in options.items() if value is not None}
    recipe = validated(WhitenRecipe, given, "the whitening")
    photographs = random_subset(open_data(data, layout).gallery(list_name), pictures, seed=0)
    from trainer.export.whiten import whiten

    return {"embedder": str(out), "digest": whiten(embedder, photographs, recipe, out)}


@app.command
def adapt(
    embedder: Annotated[Path, Parameter(metavar="EMBEDDER")],
    /,
    *,
    data: Folder,
    out: Folder,
    list_name: Annotated[str | None, Parameter(name="--list", metavar="NAME")] = None,
    pictures: Annotated[int, Parameter(metavar="N")] = 20_000,
    layout: LayoutName | None = None,
) -> Result:
    """Fit an embedder to landmarks without training its network.

    Learns whitenings and a linear layer from the vectors of labeled photographs, and adds the
    one to the embedder that answers photographs kept back best, or says that none helps.

    Args:
        embedder: The embedder; it stays as it is.
        data: Photographs to learn from, of at least four landmarks.
        out: Folder of the new embedder.
        list_name: List in a GLDv2 folder (default: the clean one if there).
        pictures: Learn from at most about so many, of landmarks drawn at random.
        layout: What the folder of photographs holds (default: the first of these that is found).
    """
    from photographs import open_data
    from photographs.prepare.split import random_landmarks

    photographs = random_landmarks(open_data(data, layout).gallery(list_name), pictures, seed=0)
    from trainer.export.adapt import adapt

    return {"embedder": str(out), **adapt(embedder, photographs, out)}


@app.command
def denoise(
    run: Annotated[Path, Parameter(metavar="RUN")],
    /,
    *,
    data: Folder,
    out: Folder,
    angle: Annotated[float, Parameter(metavar="DEGREES")] = MAX_ANGLE_DEGREES,
    truth: Annotated[str | None, Parameter(metavar="LIST")] = None,
    layout: LayoutName | None = None,
) -> Result:
    """List a run's training pictures without those whose label looks wrong.

    Args:
        run: Folder of a finished run.
        data: Folder of photographs.
        out: Folder of the list and report.
        angle: Drop pictures farther from their landmark's dominant sub-center.
        truth: List with the right labels, to measure the result by.
        layout: What the folder of photographs holds (default: the first of these that is found).
    """
    from photographs import open_data
    from trainer.recipe import load_recipe

    folder, recipe = open_data(data, layout), load_recipe(run / "recipe.yaml")
    photographs = folder.gallery(recipe.stages[-1].list or recipe.data.list)  # the head's classes
    truths = {p.id: p.landmark_id for p in folder.gallery(truth)} if truth else None

    from trainer.evaluation.denoise import denoise

    report = denoise(run, photographs, out, max_angle_degrees=angle, truths=truths)
    hidden = ("angles", "dropped_pictures")
    return {key: value for key, value in report.items() if key not in hidden}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    hints: dict[Callable[..., object], str] = {
        train: "; go on with --resume",
        download: RESUMABLE,
        prepare: RESUMABLE,
    }
    return run(app, arguments, resume_hints=hints)
