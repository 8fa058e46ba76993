"""Measure what a rebuild costs beside a full build, and whether the stages of a build overlap.

    python benchmarks/rebuild.py --embedder DIR --out FOLDER [--pictures 20000] [--changed 0.01]

Pictures are drawn, a hundred of each landmark, and built, rebuilt unchanged, and rebuilt with a
share of them changed, through the plain commands; CPU time is that of those processes. Then one
process runs the decoder alone, the network alone and both as a build does, on the same pictures.
The last line is JSON.

CPU time that two stages share cannot overlap: where decoder and network together need all cores,
``bound`` is the rate that the work itself allows, 1 / (1/decoder + 1/network).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from embedder.embedder import Embedder
from index.build import says_the_same
from index.manifest import GalleryManifest, read_manifest
from index.store import Store
from index.stream import BATCH_PICTURES, embed_files
from trainer.data.drawn import draw_landmark

ROOT = Path(__file__).parents[1]
VIEWS = 100
ALONE = 2048


def draw(data: Path, side: int, number: int) -> None:
    """Draw a picture that is not there yet: landmark and view are told by its number."""
    landmark, view = divmod(number, VIEWS)
    path = data / f"{landmark:04d}" / f"{view:03d}.jpg"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_landmark(0, landmark, view, side).save(path, "JPEG", quality=90)


def command(name: str, store: Path, *words: str) -> tuple[float, float]:
    """Run a command of the archive; return its CPU seconds and its wall seconds."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    asked = [sys.executable, "-m", "index", name, "--store", str(store), *words]
    subprocess.run(asked, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    print(f"{name}: {cpu:.1f} s of CPU time", file=sys.stderr)
    return cpu, time.monotonic() - begun


def published(store: Path) -> GalleryManifest:
    """Return the manifest of the published gallery."""
    return read_manifest(Store(store).directory())


def change(paths: Iterable[Path], side: int) -> None:
    """Draw other pictures in place of these."""
    for number, path in enumerate(paths):
        draw_landmark(1, 0, number, side).save(path, "JPEG", quality=90)


def rate(count: int, work: Iterable[object]) -> float:
    """Do the work and return how many pictures of ``count`` it did in a second."""
    begun = time.monotonic()
    for _ in work:
        pass
    return count / (time.monotonic() - begun)


def alone(directory: Path, paths: list[Path]) -> dict[str, float]:
    """Return the rates of the decoder alone, the network alone, and both as in a build."""
    embedder = Embedder.load(directory)
    cuts = range(0, len(paths), BATCH_PICTURES)
    batches = [paths[cut : cut + BATCH_PICTURES] for cut in cuts]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = partial(pool.map, lambda path: embedder.prepare(path.read_bytes()))
        prepared = list(read(paths[:BATCH_PICTURES]))
        decode = rate(len(paths), (None for batch in batches for _ in read(batch)))
    network = rate(len(paths), (embedder.embed(prepared) for _ in batches))
    both = rate(len(paths), embed_files(batches, embedder))
    embedder.close()
    return {"decode": decode, "network": network, "both": both}


def main() -> None:
    """Draw, build, rebuild, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--embedder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--changed", type=float, default=0.01)
    asked = parser.parse_args()
    data, store, anew = (asked.out / name for name in ("pictures", "store", "anew"))
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(draw, data, asked.side), range(asked.pictures), chunksize=64))
    made = ("--embedder", str(asked.embedder.resolve()))
    full_cpu, full_wall = command("build", store, *made, "--data", str(data.resolve()))
    first = published(store)
    same_cpu, _ = command("rebuild", store, *made)
    stayed = published(store).build_id == first.build_id
    paths = sorted(data.rglob("*.jpg"))
    change(paths[:: round(1 / asked.changed)], asked.side)
    some_cpu, _ = command("rebuild", store, *made)
    command("build", anew, *made, "--data", str(data.resolve()))
    rates = alone(asked.embedder, paths[:ALONE])
    slower = min(rates["decode"], rates["network"])
    bound = 1 / (1 / rates["decode"] + 1 / rates["network"])
    result: dict[str, Any] = {
        "pictures": asked.pictures,
        "build_cpu_s": round(full_cpu, 2),
        "build_pictures_per_s": round(asked.pictures / full_wall, 1),
        "unchanged_cpu_s": round(same_cpu, 2),
        "unchanged_share": round(same_cpu / full_cpu, 4),
        "changed_cpu_s": round(some_cpu, 2),
        "changed_share": round(some_cpu / full_cpu, 4),
        "unchanged_stays": stayed,
        "identical": says_the_same(published(store), published(anew)),
        "decode_per_s": round(rates["decode"], 1),
        "network_per_s": round(rates["network"], 1),
        "both_per_s": round(rates["both"], 1),
        "overlap": round(rates["both"] / slower, 3),
        "bound": round(bound / slower, 3),
        "overlap_of_bound": round(rates["both"] / bound, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
