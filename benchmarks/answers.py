"""What better use of the same vectors gains.

    python benchmarks/answers.py --data gldv2-mini --weights mobilenetv2_100.safetensors --out DIR

Takes a frozen network, builds a gallery that votes, and judges by the labeled queries of the data
what is learned beyond the vectors. A part is a function that returns figures; all of them are
printed as one line of JSON at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from answers_adapter import measure_adapter
from commands import run
from judgement import judge_gallery

from embedder.embedder import Embedder
from index.evaluation.evaluate import evaluate
from index.gallery.gallery import Gallery
from photographs import open_data

BACKBONE = "mobilenetv2_100"


@dataclass(frozen=True, slots=True)
class Setting:
    """What the parts measure on.

    Attributes:
        data: Photographs with labeled queries, some of no landmark.
        weights: Of the network :data:`BACKBONE`.
        embedder: The network, frozen.
        store: A gallery of the photographs by it, which votes.
    """

    data: Path
    weights: Path
    embedder: Path
    store: Path


def main() -> None:
    """Measure each part that is asked for, and print the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("--data", "--weights", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    asked = parser.parse_args()
    setting = Setting(asked.data, asked.weights, asked.out / "embedder", asked.out / "store")
    _prepare(setting)
    figures: dict[str, Any] = {}
    for name in asked.parts:
        found = PARTS[name](setting)
        print(name, json.dumps(found), file=sys.stderr)
        figures |= found
    print(json.dumps(figures))


def _prepare(setting: Setting) -> None:
    """Export the network and build the gallery, unless an earlier run did."""
    if not setting.embedder.exists():
        weights = ("--backbone", BACKBONE, "--weights", setting.weights)
        run("trainer", "export", "--out", setting.embedder, *weights)
    if not (setting.store / "CURRENT").exists():
        places = ("--embedder", setting.embedder, "--data", setting.data, "--store", setting.store)
        run("index", "build", *places, "--ranking", "vote", "--distractors", "gallery")


def learned_confidence(setting: Setting) -> dict[str, Any]:
    """Compare a probability learned from several signals with the confidence of the vote.

    Means over 200 halves of the queries, each judged by what was learned from the other.
    """
    with (
        closing(Embedder.load(setting.embedder)) as embedder,
        closing(Gallery.open(setting.store, embedder_digest=embedder.digest)) as gallery,
    ):
        found = judge_gallery(gallery, embedder, setting.data, 0.95)
    names = ("gap_gain", "gap_better_share", "auroc_gain", "precision_kept_share")
    return {f"learned_{name}": found[f"learned_{name}"] for name in names}


def adapter(setting: Setting) -> dict[str, Any]:
    """Compare an adapter of the frozen network with the network as it is."""
    return measure_adapter(setting.embedder, setting.data, setting.embedder.parent / "adapted")


def reranking(setting: Setting) -> dict[str, Any]:
    """Compare a vote of reranked pictures with a vote of the nearest, over all queries."""
    with (
        closing(Embedder.load(setting.embedder)) as embedder,
        closing(Gallery.open(setting.store, embedder_digest=embedder.digest)) as gallery,
    ):
        figures, _ = evaluate(gallery, embedder, open_data(setting.data))
    ladder = {rung.ranking: asdict(rung) for rung in figures.ladder}
    before, after = ladder["vote"], ladder["vote, reranked"]
    return {f"rerank_{name}_gain": after[name] - before[name] for name in ("gap", "top1", "auroc")}


def architectures(_: Setting) -> dict[str, Any]:
    """Count the architectures that work, are refused in a sentence, or break; all without weights.

    In a process of its own, since that one forks.
    """
    command = [sys.executable, str(Path(__file__).with_name("architectures.py"))]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    print(said, file=sys.stderr)
    return {name: value for name, value in found.items() if name.startswith("architectures_")}


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "learned": learned_confidence,
    "adapter": adapter,
    "rerank": reranking,
    "architectures": architectures,
}
"""The parts, each of which may be asked for alone."""


if __name__ == "__main__":
    main()
