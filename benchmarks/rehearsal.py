"""Rehearse the whole chain at the counts of Google Landmarks v2, with tiny drawn pictures.

    python benchmarks/rehearsal.py --out FOLDER [--scale 1.0] [--data FOLDER]

What grows with the number of pictures, landmarks, rows and queries is as large as in reality; only
the network is small. Each stage is a command of Cairn in a process of its own, watched from
outside: wall and CPU time, memory, bytes. Training and build are killed and go on. A stage that is
done stands in ``stages.json`` of the folder, and is not done again: delete the file to repeat all,
or its entry to repeat one and what follows by deleting those too. The last line is JSON, which
``rehearsal.json`` and ``rehearsal.html`` explain: the bounds, each held or not. The exit code is 1
if one that is judged at this scale is not: counts at any scale, times and shares at 1.0.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import rehearsal_report
from load import tell
from rehearsal_service import serve
from rehearsal_stages import STAGES, Rehearsal

from embedder.artifacts.files import write_atomic
from photographs.sample.full_size import FullSize

_MINUTES, _GIGABYTES = {"drawing": 25, "training": 15, "gallery": 60, "service": 5}, (10.5, 3.0)
"""At full size, on two cores: how long what takes, and the disk for the pictures and all else."""


def announce(rehearsal: Rehearsal) -> None:
    """Say how long it may take and what disk it needs.

    Raises:
        SystemExit: The disk has too little space.
    """
    scale, cores = rehearsal.plan.scale, os.cpu_count() or 1
    minutes = {part: 1 + n * scale * 2 / cores for part, n in _MINUTES.items()}
    pictures, rest = (size * scale for size in _GIGABYTES)
    needed = rest + (0 if "draw" in rehearsal.records else pictures)
    free = shutil.disk_usage(rehearsal.out).free / 1e9
    parts = ", ".join(f"{part} {n:.0f}" for part, n in minutes.items())
    tell(f"about {sum(minutes.values()):.0f} minutes with {cores} cores: {parts}")
    tell(f"disk: {pictures:.1f} GB for pictures and {rest:.1f} GB more; {free:.0f} GB are free")
    if needed > free:
        raise SystemExit(f"{needed:.1f} GB are needed")


def main() -> int:
    """Do the stages that are not done yet, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="where the set is drawn (default: OUT/data)")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", choices=STAGES, help="end after this stage")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    plan, path = FullSize(options.scale, options.seed), out / "stages.json"
    records = rehearsal_report.read_records(path)
    rehearsal = Rehearsal(out, (options.data or out / "data").resolve(), plan, records)
    announce(rehearsal)
    for name, stage in {**STAGES, "service": serve}.items():
        if name not in records:
            tell(name)
            records[name] = stage(rehearsal, name)
            write_atomic(path, json.dumps(records, indent=1).encode())
            tell(f"{name}: {json.dumps(records[name])}")
        if name == options.until:
            return 0
    line = rehearsal_report.write(rehearsal)
    print(json.dumps(line))
    return 0 if line["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
