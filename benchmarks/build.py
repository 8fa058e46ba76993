"""Measure whether the stages of a build overlap: decoding alone, the network alone, and a build.

    python benchmarks/build.py --embedder DIR (--data DIR | --out FOLDER) [--pictures 2048]

The pictures are those of a data folder, or drawn ones of 384 pixels, as long as a photograph of
gldv2-mini. Each round reads and decodes them with as many threads as a build has readers, runs the
network on batches that lie decoded in memory, and embeds the files as a build does; a figure is the
median of its rounds, so that what else the machine does falls on all three alike. The last line is
JSON.

``overlap`` is the rate of the build divided by that of its slower stage. Cores that both stages
need cannot be had twice: where each alone keeps all cores busy, no build can be faster than
``bound``, 1 / (1/decoding + 1/network), and ``overlap_of_bound`` says how near it comes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

from embedder.embedder import Embedder, Prepared
from index.building.defaults import BATCH_PICTURES
from index.building.pipeline import embed_files, reader_count
from photographs import open_data
from photographs.sample import draw_scene

SIDE, HELD = 384, 4
"""Longer side of a drawn picture; batches that lie in memory for the network alone."""


def draw(out: Path, number: int) -> Path:
    """Draw a picture that is not there yet."""
    path = out / f"{number:06d}.jpg"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_scene(0, number, SIDE).save(path, "JPEG", quality=90)
    return path


def find(options: argparse.Namespace) -> list[Path]:
    """Return the pictures."""
    if options.data is not None:
        listed = open_data(options.data).gallery()
        return [photograph.path for photograph in listed[: options.pictures]]
    with ProcessPoolExecutor() as pool:
        return list(pool.map(partial(draw, options.out), range(options.pictures), chunksize=64))


def rate(count: int, work: Iterable[object]) -> float:
    """Do the work and return how many pictures of ``count`` it did in a second."""
    begun = time.monotonic()
    for _ in work:
        pass
    return count / (time.monotonic() - begun)


def decoded(batches: Sequence[Sequence[Path]], embedder: Embedder) -> Iterator[Sequence[Prepared]]:
    """Read and decode every batch, with as many threads as a build."""
    with ThreadPoolExecutor(reader_count(0)) as pool:
        for batch in batches:
            yield list(pool.map(lambda path: embedder.prepare(path.read_bytes()), batch))


def measure(embedder: Embedder, paths: Sequence[Path], rounds: int) -> dict[str, float]:
    """Return the median rates of decoding, of the network and of both as in a build."""
    cuts = range(0, len(paths), BATCH_PICTURES)
    batches = [paths[cut : cut + BATCH_PICTURES] for cut in cuts]
    held = list(decoded(batches[:HELD], embedder))
    fed = [held[number % len(held)] for number in range(len(paths) // BATCH_PICTURES)]
    rates: dict[str, list[float]] = {"decode": [], "network": [], "build": []}
    for number in range(rounds):
        rates["decode"].append(rate(len(paths), decoded(batches, embedder)))
        rates["network"].append(
            rate(len(fed) * BATCH_PICTURES, (embedder.embed(batch) for batch in fed))
        )
        rates["build"].append(rate(len(paths), embed_files(batches, embedder)))
        latest = {name: round(found[-1], 1) for name, found in rates.items()}
        print(f"round {number + 1}: {latest} pictures a second", file=sys.stderr)
    return {name: statistics.median(found) for name, found in rates.items()}


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--embedder", type=Path, required=True)
    pictures = parser.add_mutually_exclusive_group(required=True)
    pictures.add_argument("--data", type=Path)
    pictures.add_argument("--out", type=Path)
    parser.add_argument("--pictures", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    paths = find(options)
    with closing(Embedder.load(options.embedder)) as embedder:
        rates = measure(embedder, paths, options.rounds)
    slower = min(rates["decode"], rates["network"])
    bound = 1 / (1 / rates["decode"] + 1 / rates["network"])
    result: dict[str, float] = {
        "pictures": len(paths),
        "cores": os.cpu_count() or 1,
        "decode_per_s": round(rates["decode"], 1),
        "network_per_s": round(rates["network"], 1),
        "build_per_s": round(rates["build"], 1),
        "overlap": round(rates["build"] / slower, 3),
        "bound": round(bound / slower, 3),
        "overlap_of_bound": round(rates["build"] / bound, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
