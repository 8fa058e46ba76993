"""Give training pictures wrong labels, and measure what denoising wins back.

    python benchmarks/noise.py --data DIR --weights FILE --out FOLDER [--share 0.2] [--seed 0]

Of ``--data``, in the layout of Google Landmarks v2, a share of the training pictures, drawn by the
seed, gets the label of another landmark. Then, through the plain commands: ArcFace (K = 1) learns
from the clean list and from the noisy one; sub-center ArcFace (K = 3) from the noisy one;
``denoise`` writes a list by the latter; K = 1 learns from that. What is finished is not done again.

The last line is JSON. ``gap`` judges each training by a gallery of clean labels; ``gap_own_list``
by a gallery of the list that it learned from, as somebody would have it who knows of no other.
``recovered`` is the share of what noise costs that denoising wins back.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from commands import parser_of_trainings, run

from photographs import Photograph, open_data

SINGLE, SEVERAL = "head.centers=1", "head.centers=3"


def mislabel(photographs: list[Photograph], share: float, seed: int) -> dict[str, str]:
    """Give a share of the photographs labels of each other, every one another landmark's.

    The drawn ones are put in order of their landmarks, and their labels are moved on by the size
    of the largest group, so that each landmark keeps its number of pictures.

    Returns:
        The label of every photograph, by its id.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(photographs))[: round(share * len(photographs))]
    drawn = sorted((photographs[i] for i in order), key=lambda p: str(p.landmark_id))
    landmarks = [str(photograph.landmark_id) for photograph in drawn]
    largest = max(map(landmarks.count, landmarks))
    if largest > len(drawn) / 2:
        raise SystemExit("one landmark has more than half of the pictures: they cannot be mixed")
    moved = landmarks[largest:] + landmarks[:largest]
    labels = {photograph.id: str(photograph.landmark_id) for photograph in photographs}
    return labels | {photograph.id: mark for photograph, mark in zip(drawn, moved, strict=True)}


def write_list(path: Path, labels: dict[str, str]) -> None:
    """Write a list with one picture in each line."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "landmark_id"), *labels.items()])


class Bench:
    """The trainings of one folder.

    Args:
        options: The command's.
        clean: The list of right labels.
    """

    def __init__(self, options: argparse.Namespace, clean: Path) -> None:
        self.options = options
        self.clean = clean

    def train(self, name: str, listed: Path, centers: str) -> Path:
        """Learn from a list; return the run's folder."""
        made, options = self.options.out / name / "run", self.options
        if not (made / "report.json").exists():
            changes = [f"data.list={listed}", f"seed={options.seed}", centers, *options.set]
            recipe = [word for change in changes for word in ("--set", change)]
            weights = ["--weights", options.weights] if options.weights else []
            resume = ["--resume"] if (made / "last.safetensors").exists() else []
            places = ["--data", options.data, "--out", made, *resume]
            run("trainer", "train", "--recipe", options.recipe, *recipe, *weights, *places)
        return made

    def judge(self, name: str, listed: Path) -> dict[str, Any]:
        """Judge a training by its gallery of clean labels, and by that of its own list."""
        folder, data = self.options.out / name, ("--data", self.options.data)
        figures = folder / "figures.json"
        if not figures.exists():
            embedder = folder / "embedder"
            run("trainer", "export", folder / "run", "--out", embedder)
            found: dict[str, Any] = {}
            for key, gallery in (("gap", self.clean), ("gap_own_list", listed)):
                made = ("--embedder", embedder, "--store", folder / f"store-{gallery.stem}")
                run("index", "build", *made, *data, "--list", gallery)
                found[key] = run("index", "evaluate", *made, *data)["gap"]
            figures.write_text(json.dumps(found))
        result: dict[str, Any] = json.loads(figures.read_text())
        return result


def recovered(figures: dict[str, dict[str, Any]], key: str) -> float | None:
    """Return the share of what noise cost that was won back; None where it cost nothing."""
    lost = figures["clean"][key] - figures["noisy"][key]
    won = figures["denoised"][key] - figures["noisy"][key]
    return round(won / lost, 4) if lost > 0 else None


def main() -> None:
    """Train on clean, noisy and denoised labels, and print the figures."""
    parser = parser_of_trainings(__doc__)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--angle", type=float, default=75.0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    options.data, options.out = options.data.resolve(), options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    photographs = open_data(options.data).gallery()
    clean, noisy = (options.out / f"train_{name}.csv" for name in ("clean", "noisy"))
    write_list(clean, {photograph.id: str(photograph.landmark_id) for photograph in photographs})
    write_list(noisy, mislabel(photographs, options.share, options.seed))
    bench = Bench(options, clean)
    several = bench.train("several", noisy, SEVERAL)
    judged = ("--data", options.data, "--truth", clean, "--angle", options.angle)
    made = options.out / "denoised-list"
    dropped = run("trainer", "denoise", several, "--out", made, *judged)
    lists = {"clean": clean, "noisy": noisy, "denoised": made / "train_denoised.csv"}
    figures = {}
    for name, listed in lists.items():
        bench.train(name, listed, SINGLE)
        figures[name] = bench.judge(name, listed)
        print(json.dumps({name: figures[name]}), file=sys.stderr)
    counts = ("pictures", "wrong", "dropped", "precision", "recall", "max_angle")
    result = {
        "share": options.share,
        **figures,
        "recovered": recovered(figures, "gap"),
        "recovered_own_list": recovered(figures, "gap_own_list"),
        **{key: dropped[key] for key in counts},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
