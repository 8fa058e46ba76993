"""Measure what it costs a large gallery to grow and to shrink.

    python benchmarks/growth.py --out FOLDER [--rows 1000000] [--added 1000]

A gallery of drawn vectors gets a thousand pictures more, by ``add`` as it is and as it was before
there were segments, which git still has; then a landmark is removed. A picture is a few bytes, and
a function of them its vector, so that the times are those of ``add`` without the network. Ten
equal segments are searched beside one of the same rows. A smaller gallery grows, shrinks and is
compacted, and compared with a build from nothing. The last line is JSON:

    add_bytes_share      bytes that add writes, of those of the gallery
    add_time_share       its time, of that of add before there were segments
    remove_bytes         bytes that the removal of a landmark writes
    ten_segments_factor  time of a query of ten segments, of that of one
    compacted_equal      whether compact made the files of a build from nothing
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
from byte_embedder import DIMENSION, ByteEmbedder, draw
from numpy.typing import NDArray

from embedder.artifacts.files import RecordedFile, record
from index.building.embedder_choice import EmbedderChoice, LazyEmbedder
from index.gallery.arrow import new_arrow
from index.gallery.catalog import CATALOG, CatalogRow, CatalogWriter
from index.gallery.gallery import VECTORS
from index.gallery.manifest import EmbedderReference
from index.gallery.names import LANDMARKS, NAMES
from index.gallery.store import Store
from index.maintenance.add import add
from index.ranking.ranking import Ranking
from index.search.faiss_search import open_vectors, write_vectors
from index.search.kinds import resolve
from index.search.neighbors import find_nearest
from photographs import open_data

if TYPE_CHECKING:
    from embedder.embedder import Embedder
    from index.gallery.manifest import GalleryManifest

ROOT = Path(__file__).parents[1]
BEFORE = "9e31210"
"""The last commit without segments."""

VIEWS, BLOCK = 20, 1 << 15
DIGEST = f"sha256:{hashlib.sha256(b'drawn').hexdigest()}"
SEGMENTS, QUERIES, SMALL = 10, 200, 20_000


def blocks(rows: int) -> Iterator[NDArray[np.float32]]:
    """Draw the rows of a gallery, so many of each landmark."""
    for begin in range(0, rows, BLOCK):
        codes = np.arange(begin, min(begin + BLOCK, rows)) // VIEWS
        found, counts = np.unique(codes, return_counts=True)
        yield np.concatenate([draw(int(c), int(n), 0) for c, n in zip(found, counts, strict=True)])


def tell(text: str) -> None:
    """Say what is done."""
    print(text, file=sys.stderr, flush=True)


LAZY = LazyEmbedder(
    EmbedderReference(name="drawn", digest=DIGEST, runtime="openvino", precision="f32"),
    DIMENSION,
    Ranking(),
    lambda: nullcontext(cast("Embedder", ByteEmbedder())),
)


class DrawnChoice(EmbedderChoice):
    """The choice of it."""

    def run_like(self, published: EmbedderReference) -> LazyEmbedder:
        """Run it."""
        return LAZY


def make_store(path: Path, rows: int) -> None:
    """Write a gallery of drawn vectors that both can read."""
    build_id = "2026-01-01T00-00-00Z-0000"
    directory = path / "builds" / build_id
    directory.mkdir(parents=True)
    kind = resolve("auto", rows, dimension=DIMENSION)
    tell(f"write {rows} vectors as {kind.name}")
    write_vectors(directory / VECTORS, blocks(rows), rows=rows, dimension=DIMENSION, kind=kind)
    with CatalogWriter(directory, {}) as catalog:
        for begin in range(0, rows, BLOCK):
            own = range(begin, min(begin + BLOCK, rows))
            catalog.add(
                [
                    CatalogRow(f"{n:016x}", str(n // VIEWS), f"{n}.jpg", n.to_bytes(32), 9, 1)
                    for n in own
                ]
            )
    ids = pa.array(map(str, range(-(-rows // VIEWS))), pa.string())
    file = RecordedFile(directory / LANDMARKS)
    with file, new_arrow(file, NAMES) as writer:
        writer.write_table(pa.table([ids, ids], schema=NAMES))
    (directory / "unreadable.csv").write_text("id,path,reason\n")
    names = (VECTORS, CATALOG, LANDMARKS, "unreadable.csv")
    manifest = {
        "schema_version": 2,
        "build_id": build_id,
        "created": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
        "kind": kind.name,
        "factory": kind.factory,
        "k_factor": 1000 if kind.candidates else None,
        "rows": rows,
        "landmarks": -(-rows // VIEWS),
        "dimension": DIMENSION,
        "embedder": LAZY.reference.model_dump(),
        "list": {"data": str(path), "name": "folders", "digest": DIGEST, "pictures": rows},
        "unreadable": 0,
        "files": {name: record(directory / name).model_dump() for name in names},
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))
    (path / "CURRENT").write_text(f"{build_id}\n")


def write_pictures(folder: Path, numbers: range) -> Path:
    """Write pictures of a few bytes, in a folder for each landmark."""
    for number in numbers:
        landmark = number // VIEWS
        path = folder / str(landmark) / f"p{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{landmark} {number}")
    return folder


def timed_add(code: Path, script: str, *words: object) -> float:
    """Add a folder by the code in ``code``, in a process of its own; return its seconds."""
    asked = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(code)}
    run = subprocess.run(asked, check=True, stdout=subprocess.PIPE, env=environment, cwd=code)
    seconds = float(run.stdout)
    tell(f"add by {code}: {seconds:.2f} s")
    return seconds


def code_before(folder: Path) -> Path:
    """Take the code of before out of git."""
    if not folder.exists():
        folder.mkdir(parents=True)
        archive = subprocess.run(
            ["git", "archive", BEFORE], check=True, stdout=subprocess.PIPE, cwd=ROOT
        )
        subprocess.run(["tar", "-x"], check=True, input=archive.stdout, cwd=folder)
    return folder


def written_bytes(store: Path) -> int:
    """Return the bytes of the published build that no other build shares."""
    states = [path.stat() for path in Store(store).directory().rglob("*") if path.is_file()]
    return sum(state.st_size for state in states if state.st_nlink == 1)


def share(store: Path, target: Path) -> Path:
    """Copy a store whose builds share their files with it."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(store, target, copy_function=os.link))


def segments_factor(store: Path, folder: Path, rows: int) -> float:
    """Return how much longer a query takes of ten equal segments than of one."""
    whole = Store(store).directory() / VECTORS
    kind, paths = resolve("auto", rows, dimension=DIMENSION), []
    codes_of = whole if kind.candidates else None
    one = open_vectors(whole, k_factor=1000)
    for number in range(SEGMENTS):
        own = np.arange(number * rows // SEGMENTS, (number + 1) * rows // SEGMENTS)
        paths.append(folder / str(number) / VECTORS)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        vectors = (one.reconstruct_batch(own[n : n + BLOCK]) for n in range(0, len(own), BLOCK))
        shape = {"rows": len(own), "dimension": DIMENSION}
        write_vectors(paths[-1], vectors, kind=kind, codes_of=codes_of, **shape)
    several = open_vectors(*paths, k_factor=1000)
    drawn = np.random.default_rng(3).integers(0, rows // VIEWS, QUERIES).tolist()
    times: dict[str, list[float]] = {"one": [], "several": []}
    for landmark in drawn:
        query = draw(landmark, 1, 9)
        for name, engine in (("one", one), ("several", several)):
            begun = time.perf_counter()
            find_nearest(engine, query, 1)
            times[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    tell(f"milliseconds of a query: { {n: round(1000 * s, 2) for n, s in medians.items()} }")
    return medians["several"] / medians["one"]


def compacted_equal(folder: Path, pictures: int) -> bool:
    """Tell whether a gallery that was compacted has the files of a build from nothing."""
    from index.building.build import write_gallery
    from index.building.compact import compact
    from index.building.plan import RowPlan
    from index.building.publish import same_content
    from index.building.recipe import BuildRecipe
    from index.building.sources import merge_sources, read_source

    data = write_pictures(folder / "pictures", range(pictures))
    more = write_pictures(folder / "more", range(pictures, pictures + pictures // 10))

    def build(store: Store, folders: Sequence[Path]) -> GalleryManifest:
        with store.writing():
            sources = merge_sources([read_source(open_data(one)) for one in folders])
            return write_gallery(
                store, RowPlan.read_all(sources), LAZY, BuildRecipe(kind="fastscan")
            )

    grown = Store(folder / "grown")
    build(grown, [data])
    gone = sorted(data.rglob("*.jpg"))[:: pictures // 50]
    add(grown, DrawnChoice(folder), open_data(more))
    for path in gone:
        path.unlink()
    add(grown, DrawnChoice(folder), open_data(data))
    compacted = compact(grown)
    return same_content(compacted, build(Store(folder / "anew"), [data, more]))


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--added", type=int, default=1000)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.store:  # the process of one add
        begun = time.monotonic()
        add(Store(asked.store), DrawnChoice(asked.store), open_data(asked.data))
        print(time.monotonic() - begun)
        return
    from index.maintenance.remove import remove

    out = asked.out.resolve()
    first = out / f"store-{asked.rows}"
    if not (first / "CURRENT").exists():
        shutil.rmtree(first, ignore_errors=True)
        make_store(first, asked.rows)
    data = write_pictures(out / "added", range(asked.rows, asked.rows + asked.added))
    before, code = share(first, out / "before"), code_before(out / "code")
    seconds_before = timed_add(code, "growth_before.py", before, data, DIGEST)
    shutil.rmtree(before)
    store = share(first, out / "now")
    seconds = timed_add(ROOT, "growth.py", "--store", store, "--data", data)
    whole = sum(path.stat().st_size for path in Store(store).directory().rglob("*.*"))
    added_bytes = written_bytes(store)
    remove(Store(store), landmarks=["0"])
    result: dict[str, Any] = {
        "rows": asked.rows,
        "add_seconds": round(seconds, 2),
        "add_seconds_before": round(seconds_before, 2),
        "add_bytes_share": round(added_bytes / whole, 5),
        "add_time_share": round(seconds / seconds_before, 4),
        "remove_bytes": written_bytes(store),
        "ten_segments_factor": round(segments_factor(first, out / "ten", asked.rows), 3),
        "compacted_equal": compacted_equal(out / "small", min(SMALL, asked.rows)),
    }
    for name in ("now", "ten", "small"):
        shutil.rmtree(out / name)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
