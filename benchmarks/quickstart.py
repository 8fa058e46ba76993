"""Train a recipe with several seeds and judge each by the served rule, through the plain commands.

    python benchmarks/quickstart.py --data DIR --weights FILE --out FOLDER [--seeds 0 1 2]

Each seed runs ``train``, ``export``, ``build`` and ``evaluate`` as a user would type them. The
last line is JSON: every seed's figures, and their medians. Queries are looked at once, at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

from commands import parser_of_trainings, run

FIGURES = ("gap", "top1", "auroc")


def measure(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train and judge one seed."""
    folder = options.out / f"seed-{seed}"
    made, embedder, store = (str(folder / name) for name in ("run", "embedder", "store"))
    recipe = ["--recipe", str(options.recipe), "--set", f"seed={seed}"]
    weights = ["--weights", str(options.weights)] if options.weights else []
    started = time.monotonic()
    run("trainer", "train", *recipe, *weights, "--data", str(options.data), "--out", made)
    seconds = time.monotonic() - started
    run("trainer", "export", made, "--out", embedder)
    run("index", "build", "--embedder", embedder, "--data", str(options.data), "--store", store)
    judged = run(
        "index", "evaluate", "--store", store, "--embedder", embedder, "--data", str(options.data)
    )
    return {
        "seed": seed,
        "training_seconds": round(seconds),
        **{name: judged[name] for name in FIGURES},
    }


def main() -> None:
    """Measure every seed and print the table."""
    parser = parser_of_trainings(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        rows.append(measure(options, seed))
        print(json.dumps(rows[-1]), flush=True)
    names = ("training_seconds", *FIGURES)
    medians = {name: statistics.median(row[name] for row in rows) for name in names}
    print(json.dumps({"recipe": options.recipe.stem, "seeds": rows, "median": medians}))


if __name__ == "__main__":
    main()
