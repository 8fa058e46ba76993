"""Measure what a rebuild costs beside a full build.

    python benchmarks/rebuild.py --embedder DIR --out FOLDER [--pictures 20000] [--changed 0.01]

Pictures are drawn, a hundred of each landmark, and built, rebuilt unchanged, rebuilt with a
share of them changed, and compacted, through the plain commands; CPU time is that of those
processes. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from index.building.publish import same_content
from index.gallery.manifest import GalleryManifest, read_manifest
from index.gallery.store import Store
from photographs.sample import draw_landmark

ROOT = Path(__file__).parents[1]
VIEWS = 100


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
    full_cpu, full_seconds = command("build", store, *made, "--data", str(data.resolve()))
    first = published(store)
    same_cpu, _ = command("rebuild", store, *made)
    stayed = published(store).build_id == first.build_id
    paths = sorted(data.rglob("*.jpg"))
    change(paths[:: round(1 / asked.changed)], asked.side)
    some_cpu, _ = command("rebuild", store, *made)
    command("build", anew, *made, "--data", str(data.resolve()))
    command("compact", store)
    result: dict[str, Any] = {
        "pictures": asked.pictures,
        "build_cpu_s": round(full_cpu, 2),
        "build_pictures_per_s": round(asked.pictures / full_seconds, 1),
        "unchanged_cpu_s": round(same_cpu, 2),
        "unchanged_share": round(same_cpu / full_cpu, 4),
        "changed_cpu_s": round(some_cpu, 2),
        "changed_share": round(some_cpu / full_cpu, 4),
        "unchanged_stays": stayed,
        "identical": same_content(published(store), published(anew)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
