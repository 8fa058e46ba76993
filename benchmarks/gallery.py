"""The scale rehearsal: galleries as large as Google Landmarks v2, against `faiss.IndexFlatIP`.

    python benchmarks/gallery.py [--rows 1580470] [--kind fastscan] [--out FOLDER]

Rows are drawn from a seed, with GLDv2's class sizes and with the cosines that a trained embedder
gives to real photographs (see ``cosines.py``). `cairn-index`'s own code writes the gallery,
proves it and opens it; a fresh process asks 2,000 queries one at a time, then in batches. In the
same run an IndexFlatIP is given the same rows as they were drawn, in float32, and asked some of
the same queries, one at a time; the exact answers to all of them are those of a blocked matrix
product over the same float32 rows, which must be the index's own where that was asked.

The last line is JSON; ``answers.npz`` has the answers of both and the seconds of each query. What
is timed as a build begins with vectors and ends with files that are on disk and proved; the
catalog, which a build writes while it embeds, is timed apart.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from cosines import BLOCK, CLEAN_ROWS, DIMENSION, DIRECTIONS, MEASURED, Drawn
from numpy.typing import NDArray

from embedder.artifacts.arrays import read_npz, write_npz
from embedder.artifacts.files import record, sha256_bytes, sync_tree
from index.building.recall import compare, exact_answers, measure_recall
from index.gallery.catalog import CATALOG, CatalogRow, CatalogWriter
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.manifest import (
    EmbedderReference,
    GalleryManifest,
    ListReference,
    write_manifest,
)
from index.gallery.names import LANDMARKS
from index.progress import watch_rows
from index.search.faiss_search import write_vectors
from index.search.kinds import resolve
from index.search.neighbors import Neighbors

QUERIES, BATCH = 2000, 64
SAME_SIMILARITY = 1e-5
"""A matrix product and FAISS add up in another order."""

DIGEST = sha256_bytes(b"the rehearsal")


class Stopwatch:
    """The seconds of each stage, told on stderr as they pass."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the ``with`` block as the stage ``name``."""
        print(f"{name} …", file=sys.stderr)
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started
        print(f"{name}: {self.seconds[name]:.1f} s", file=sys.stderr)


def write_catalog(directory: Path, landmarks: NDArray[np.int32]) -> int:
    """Write the catalog that so many pictures have, and return the number of landmarks."""
    with CatalogWriter(directory, {}) as catalog:
        for start in range(0, len(landmarks), BLOCK):
            block = enumerate(landmarks[start : start + BLOCK].tolist(), start)
            catalog.add(
                [
                    CatalogRow(f"{r:016x}", str(c), f"train/0/0/0/{r:016x}.jpg", bytes(32), 1, 1)
                    for r, c in block
                ]
            )
        return catalog.landmark_count


def build(
    directory: Path, drawn: Drawn, asked: str, watch: Stopwatch
) -> tuple[GalleryManifest, float]:
    """Build a gallery from vectors as ``cairn-index build`` does.

    Returns:
        The manifest, and the seconds without those that it took to draw.
    """
    rows = len(drawn.landmarks)
    with watch.stage("catalog"):
        landmarks = write_catalog(directory, drawn.landmarks)
    drawing = 0.0

    def ready() -> Iterator[NDArray[np.float32]]:
        nonlocal drawing
        blocks = watch_rows(drawn.blocks(), rows, "rows")
        while True:
            started = time.monotonic()
            block = next(blocks, None)
            drawing += time.monotonic() - started
            if block is None:
                return
            yield block

    started = time.monotonic()
    with watch.stage("draw and write vectors"):
        kind = resolve(asked, rows, dimension=DIMENSION)
        vectors = write_vectors(
            directory / VECTORS, ready(), rows=rows, dimension=DIMENSION, kind=kind
        )
    files = {VECTORS: vectors, **{name: record(directory / name) for name in (CATALOG, LANDMARKS)}}
    manifest = GalleryManifest(
        build_id=directory.name,
        created=datetime.now(UTC),
        kind=kind.name,
        factory=kind.factory,
        rows=rows,
        landmarks=landmarks,
        dimension=DIMENSION,
        embedder=EmbedderReference(
            name="drawn", digest=DIGEST, runtime="openvino", precision="f32"
        ),
        list=ListReference(data="/", name="drawn", digest=DIGEST, pictures=rows),
        unreadable=0,
        files=files,
    )
    with watch.stage("prove"):
        manifest = measure_recall(Gallery.of_files(directory, manifest))
        write_manifest(directory, manifest)
    with watch.stage("sync"):
        sync_tree(directory)
    return manifest, time.monotonic() - started - drawing


def ask(directory: Path, questions: Path, answers: Path) -> None:
    """Open a gallery in this fresh process, ask one query at a time, then batches; be measured."""
    queries = read_npz(questions)["queries"]
    started = time.monotonic()
    gallery = Gallery.open_directory(directory, embedder_digest=DIGEST)
    gallery.search(queries[:1], 1)
    opened = time.monotonic() - started
    found, seconds = one_by_one(lambda query: gallery.search(query, 1), queries)
    anonymous = rss_anon_gb()
    batches = [queries[start : start + BATCH] for start in range(0, len(queries), BATCH)]
    batch_seconds = [timed(partial(gallery.search, batch, 1))[1] for batch in batches]
    write_npz(
        answers,
        rows=np.array([neighbors.rows[0, 0] for neighbors in found]),
        similarities=np.array([neighbors.similarities[0, 0] for neighbors in found]),
        seconds=seconds,
        batch_seconds=np.array(batch_seconds),
        facts=np.array([opened, anonymous]),
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what the work gives, and its seconds."""
    started = time.monotonic()
    given = work()
    return given, time.monotonic() - started


def one_by_one(
    search: Callable[[NDArray[np.float32]], Any], queries: NDArray[np.float32]
) -> tuple[list[Any], NDArray[np.float64]]:
    """Ask one query at a time; return the answers and the seconds of each."""
    found, seconds = zip(*(timed(partial(search, query[None])) for query in queries), strict=True)
    return list(found), np.array(seconds)


def rss_anon_gb() -> float:
    """Return the anonymous memory of this process: what it does not share with others."""
    status = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in status if line.startswith("RssAnon"))
    return int(kilobytes) * 1024 / 1e9


def ask_flat(
    drawn: Drawn, queries: NDArray[np.float32], asked: int, watch: Stopwatch
) -> tuple[Neighbors, NDArray[np.float64]]:
    """Put the rows as they are drawn into an IndexFlatIP, and ask it.

    Returns:
        The exact answers to all queries, and the seconds of the ``asked`` first ones.
    """
    index = faiss.IndexFlatIP(DIMENSION)

    def added() -> Iterator[NDArray[np.float32]]:
        for block in watch_rows(drawn.blocks(), len(drawn.landmarks), "rows"):
            index.add(block)
            yield block

    with watch.stage("draw again, for IndexFlatIP and the exact answers"):
        truth = exact_answers(added(), queries)
    with watch.stage(f"IndexFlatIP, {asked} queries one at a time"):
        index.search(queries[:1], 1)
        found, seconds = one_by_one(lambda query: index.search(query, 1), queries[:asked])
    similarities = np.array([similarity[0, 0] for similarity, _ in found])
    np.testing.assert_allclose(similarities, truth.similarities[:asked], atol=SAME_SIMILARITY)
    return truth, seconds


def milliseconds(seconds: NDArray[np.float64], share: float = 0.5) -> float:
    """Return a quantile in milliseconds."""
    return round(float(np.quantile(seconds, share)) * 1e3, 3)


def rehearse(options: argparse.Namespace) -> dict[str, float | str]:
    """Build, ask and compare; return the figures."""
    directory, questions = options.out / "build", options.out / "queries.npz"
    answers = options.out / "answers.npz"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    watch, drawn = Stopwatch(), Drawn(options.rows, MEASURED, DIRECTIONS)
    queries = drawn.queries(QUERIES)
    write_npz(questions, queries=queries)
    manifest, build_seconds = build(directory, drawn, options.kind, watch)
    with watch.stage(f"{manifest.factory}, {QUERIES} queries in a fresh process"):
        command = [sys.executable, __file__, "--ask", str(directory), str(questions), str(answers)]
        subprocess.run(command, check=True)
    own = read_npz(answers)
    truth, flat_seconds = ask_flat(drawn, queries, options.flat_queries, watch)
    compared = compare(Neighbors(own["rows"], own["similarities"]), truth, drawn.landmarks)
    write_npz(
        answers,
        fastscan_rows=own["rows"],
        fastscan_similarities=own["similarities"],
        exact_rows=truth.rows,
        exact_similarities=truth.similarities,
        landmarks_of_fastscan=drawn.landmarks[own["rows"]],
        landmarks_of_exact=drawn.landmarks[truth.rows],
        fastscan_seconds=own["seconds"],
        fastscan_batch_seconds=own["batch_seconds"],
        flat_seconds=flat_seconds,
    )
    return {
        "rows": manifest.rows,
        "flat_p50_ms": milliseconds(flat_seconds),
        "fastscan_p50_ms": milliseconds(own["seconds"]),
        "recall_at_1": compared.recall_at_1,
        "class_agreement": compared.class_agreement,
        "worst_cosine_gap": compared.worst_cosine_gap,
        "rss_anon_gb": round(float(own["facts"][1]), 3),
        "file_gb": round((directory / VECTORS).stat().st_size / 1e9, 3),
        "build_s": round(build_seconds, 1),
        "open_s": round(float(own["facts"][0]), 3),
        "times_faster": round(float(np.median(flat_seconds) / np.median(own["seconds"])), 1),
        "flat_p99_ms": milliseconds(flat_seconds, 0.99),
        "fastscan_p99_ms": milliseconds(own["seconds"], 0.99),
        "batch_p50_ms": milliseconds(own["batch_seconds"]),
        "batch_p99_ms": milliseconds(own["batch_seconds"], 0.99),
        "nearest_cosine": round(float(truth.similarities.mean()), 4),
        "catalog_s": round(watch.seconds["catalog"], 1),
        "factory": manifest.factory,
        "k_factor": manifest.k_factor or 0,
    }


def main() -> None:
    """Rehearse, or be the fresh process of a rehearsal."""
    if sys.argv[1:2] == ["--ask"]:
        ask(*map(Path, sys.argv[2:]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=CLEAN_ROWS)
    parser.add_argument("--kind", default="fastscan", help="as cairn-index build takes it")
    parser.add_argument("--flat-queries", type=int, default=200, help="asked of IndexFlatIP")
    parser.add_argument("--out", type=Path, default=Path(".bench/gallery"))
    print(json.dumps(rehearse(parser.parse_args())))


if __name__ == "__main__":
    main()
