"""Train a recipe with several seeds and judge each by the served rule, through the plain commands.

    python benchmarks/quickstart.py --data DIR --weights FILE --out FOLDER [--seeds 0 1 2]

Each seed runs ``train``, ``export``, ``build`` and ``evaluate`` as a user would type them. The
last line is JSON: every seed's figures, and their medians. Queries are looked at once, at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FIGURES = ("gap", "top1", "auroc")


def run(module: str, *arguments: str) -> dict[str, Any]:
    """Run one command of Cairn and return its result."""
    print(
        "$", {"trainer": "cairn-train", "index": "cairn-index"}[module], *arguments, file=sys.stderr
    )
    command = [sys.executable, "-m", module, *arguments]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT)
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def measure(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train and judge one seed."""
    folder = options.out / f"seed-{seed}"
    made, embedder, store = (str(folder / name) for name in ("run", "embedder", "store"))
    recipe = ["--recipe", str(options.recipe), "--set", f"seed={seed}"]
    weights = ["--weights", str(options.weights)] if options.weights else []
    started = time.monotonic()
    trained = run("trainer", "train", *recipe, *weights, "--data", str(options.data), "--out", made)
    seconds = time.monotonic() - started
    run("trainer", "export", made, "--out", embedder)
    run("index", "build", "--embedder", embedder, "--data", str(options.data), "--store", store)
    judged = run(
        "index", "evaluate", "--store", store, "--embedder", embedder, "--data", str(options.data)
    )
    return {
        "seed": seed,
        "training_seconds": round(seconds),
        "validation_gap": trained["validation_gap"],
        **{name: judged[name] for name in FIGURES},
    }


def main() -> None:
    """Measure every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    quickstart = ROOT / "trainer" / "recipes" / "quickstart_mobilenetv2.yaml"
    parser.add_argument("--recipe", type=Path, default=quickstart)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
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
