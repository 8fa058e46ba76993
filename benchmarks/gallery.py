"""The scale rehearsal: galleries as large as Google Landmarks v2, against `faiss.IndexFlatIP`.

    python benchmarks/gallery.py [--rows 1580470] [--out FOLDER]

Rows are drawn from a seed, with GLDv2's class sizes and with the cosines that a trained embedder
gives to real photographs (see the constants). `cairn-index`'s own code writes the gallery,
proves it and opens it; a fresh process asks 2,000 queries one at a time. In the same run the
same queries go to an IndexFlatIP of the same vectors. The exact answers are its, computed as a
blocked matrix product. The last line is JSON; the answers of both go to ``answers.npz``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from embedder.arrays import read_npz, unit_rows, write_npz
from embedder.digest import record, sha256_bytes, sync_tree
from index.catalog import CATALOG, LANDMARKS, CatalogRow, CatalogWriter
from index.gallery import VECTORS, Gallery, write_vectors
from index.kinds import resolve
from index.manifest import EmbedderReference, GalleryManifest, ListReference
from index.prove import Answers, compare, exact_answers, prove

SEED, QUERIES, DIMENSION = 20, 2000, 512
CLEAN_ROWS, LANDMARK_COUNT = 1_580_470, 81_313  # train_clean.csv of GLDv2 v2.1

SMALLEST, LARGEST_SHARE = 2, 6_000 / CLEAN_ROWS
"""Class sizes of GLDv2 go from 2 to thousands."""

# Measured with the quickstart recipe's embedder on the 2,926 pictures of gldv2-mini's gallery; its
# 504 queries of known landmarks agree (0.72 and 0.19 for the first two of the next three).
WITHIN_COSINE, BETWEEN_DEVIATION, NEAREST_COSINE = 0.7405, 0.1821, 0.92
"""Between two pictures of a landmark, of two landmarks (whose mean is -0.03), to the nearest."""
CENTER_QUANTILES, CENTER_COSINES = (
    (0.05, 0.25, 0.5, 0.75, 0.95),
    (0.716, 0.841, 0.897, 0.934, 0.966),
)
"""Of a picture to the center of its landmark."""
BETWEEN_DIRECTIONS, WITHIN_DIRECTIONS = 12.0, 27.1
"""Participation ratios of the centers, which gives that deviation, and of what pictures add."""

BATCH, BATCHES = 64, 8
BLOCK = 1 << 14
DIGEST = sha256_bytes(b"the rehearsal")


def class_sizes(rows: int) -> NDArray[np.int64]:
    """Return the sizes of the landmarks, largest first, which add up to ``rows``.

    A power law of the shifted rank, through the largest and the smallest size.
    """
    landmarks = max(2, round(LANDMARK_COUNT * min(1.0, rows / CLEAN_ROWS)))
    ranks = np.arange(1, landmarks + 1, dtype=np.float64)
    largest = max(2 * SMALLEST, rows * LARGEST_SHARE)
    low, high = 0.0, 1e6
    for _ in range(100):  # more shift, more rows
        shift = (low + high) / 2
        exponent = np.log(largest / SMALLEST) / np.log((landmarks + shift) / (1 + shift))
        sizes = largest * ((ranks + shift) / (1 + shift)) ** -exponent
        low, high = (low, shift) if sizes.sum() > rows else (shift, high)
    whole = np.floor(sizes).astype(np.int64)
    whole[: int(rows - whole.sum())] += 1
    return whole


def spectrum(directions: float) -> NDArray[np.float32]:
    """Return deviations along the axes: a power law with a participation ratio of its variances."""
    ranks = np.arange(1, DIMENSION + 1, dtype=np.float64)
    low, high = 0.0, 3.0
    for _ in range(60):
        exponent = (low + high) / 2
        variances = ranks**-exponent
        ratio = variances.sum() ** 2 / (variances**2).sum()
        low, high = (exponent, high) if ratio > directions else (low, exponent)
    deviations: NDArray[np.float32] = np.sqrt(variances / variances.sum()).astype(np.float32)
    return deviations


class Drawn:
    """Pictures of landmarks, drawn from a seed: always the same, whatever is asked first.

    Args:
        rows: How many pictures the gallery has.
    """

    def __init__(self, rows: int) -> None:
        rng = np.random.default_rng(SEED)
        self.landmarks = np.repeat(
            np.arange(len(sizes := class_sizes(rows)), dtype=np.int32), rng.permutation(sizes)
        )
        turns = [np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0] for _ in range(2)]
        self._between = spectrum(BETWEEN_DIRECTIONS)[:, None] * turns[0].astype(np.float32)
        self._within = spectrum(WITHIN_DIRECTIONS)[:, None] * turns[1].astype(np.float32)
        centers = rng.standard_normal((len(sizes), DIMENSION), np.float32)
        self._centers = unit_rows(centers @ self._between)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the gallery, block by block."""
        for number, start in enumerate(range(0, len(self.landmarks), BLOCK)):
            yield self._pictures(self.landmarks[start : start + BLOCK], number)

    def queries(self) -> NDArray[np.float32]:
        """Return further pictures of the landmarks, as often as these are in the gallery."""
        rng = np.random.default_rng((SEED, 1))
        return self._pictures(rng.choice(self.landmarks, QUERIES), -1 % 2**31)

    def _pictures(self, landmarks: NDArray[np.int32], number: int) -> NDArray[np.float32]:
        rng = np.random.default_rng((SEED, 2, number))
        centers = self._centers[landmarks]
        added = rng.standard_normal(centers.shape, np.float32) @ self._within
        added -= np.einsum("nd,nd->n", added, centers)[:, None] * centers
        levels, cosines = (0.0, *CENTER_QUANTILES, 1.0), (0.0, *CENTER_COSINES, 0.988)
        cosine = np.interp(rng.random(len(landmarks)), levels, cosines)[:, None].astype(np.float32)
        return unit_rows(cosine * centers + np.sqrt(1 - cosine**2) * unit_rows(added))


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


def build(directory: Path, drawn: Drawn, asked: str) -> tuple[GalleryManifest, dict[str, float]]:
    """Build a gallery from vectors as ``cairn-index build`` does; time its stages.

    The drawn vectors stand ready: what they cost is not part of a build.
    """
    landmarks = write_catalog(directory, drawn.landmarks)
    seconds = {"draw": 0.0}

    def ready() -> Iterator[NDArray[np.float32]]:
        blocks = drawn.blocks()
        while True:
            started = time.monotonic()
            block = next(blocks, None)
            seconds["draw"] += time.monotonic() - started
            if block is None:
                return
            yield block

    started = time.monotonic()
    choose = partial(resolve, asked, dimension=DIMENSION)
    written = write_vectors(directory / VECTORS, DIMENSION, ready(), choose)
    seconds["write"] = time.monotonic() - started - seconds["draw"]
    started = time.monotonic()
    manifest = GalleryManifest(
        build_id=directory.name,
        created=datetime.now(UTC),
        kind=written.kind.name,
        factory=written.kind.factory,
        rows=written.rows,
        landmarks=landmarks,
        dimension=DIMENSION,
        embedder=EmbedderReference(
            name="drawn", digest=DIGEST, runtime="openvino", precision="f32"
        ),
        list=ListReference(data="/", name="drawn", digest=DIGEST, pictures=written.rows),
        unreadable=0,
        files={name: record(directory / name) for name in (VECTORS, CATALOG, LANDMARKS)},
    )
    seconds["digest"] = time.monotonic() - started
    started = time.monotonic()
    manifest = prove(directory, manifest)
    seconds["prove"] = time.monotonic() - started
    started = time.monotonic()
    sync_tree(directory)
    seconds["sync"] = time.monotonic() - started
    return manifest, seconds


def ask(directory: Path, questions: Path, answers: Path) -> None:
    """Open a gallery in this fresh process, ask one query at a time, then batches; be measured."""
    queries = read_npz(questions)["queries"]
    started = time.monotonic()
    gallery = Gallery.open_directory(directory, embedder_digest=DIGEST)
    gallery.search(queries[:1], 1)
    opened = time.monotonic() - started
    found, seconds = one_by_one(lambda query: gallery.search(query, 1), queries)
    anonymous = rss_anon_gb()
    batches = []
    for start in range(0, BATCH * BATCHES, BATCH):
        started = time.monotonic()
        gallery.search(queries[start : start + BATCH], 1)
        batches.append(time.monotonic() - started)
    write_npz(
        answers,
        rows=np.array([neighbors.rows[0, 0] for neighbors in found]),
        similarities=np.array([neighbors.similarities[0, 0] for neighbors in found]),
        seconds=seconds,
        batch_seconds=np.array(batches),
        facts=np.array([opened, anonymous]),
    )


def one_by_one(search: Any, queries: NDArray[np.float32]) -> tuple[list[Any], NDArray[np.float64]]:  # noqa: ANN401 (two libraries)
    """Ask one query at a time; return the answers and the seconds of each."""
    found, seconds = [], []
    for query in queries:
        started = time.monotonic()
        found.append(search(query[None]))
        seconds.append(time.monotonic() - started)
    return found, np.array(seconds)


def rss_anon_gb() -> float:
    """Return the anonymous memory of this process: what it does not share with others."""
    status = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in status if line.startswith("RssAnon"))
    return int(kilobytes) * 1024 / 1e9


def flat(gallery: Gallery, queries: NDArray[np.float32], asked: int) -> NDArray[np.float64]:
    """Ask an IndexFlatIP of the same vectors one query at a time; return the seconds of each."""
    index = faiss.IndexFlatIP(DIMENSION)
    for start in range(0, len(gallery), BLOCK):
        index.add(gallery.vectors(np.arange(start, min(start + BLOCK, len(gallery)))))
    index.search(queries[:1], 1)
    return one_by_one(lambda query: index.search(query, 1), queries[:asked])[1]


def milliseconds(seconds: NDArray[np.float64], share: float = 0.5) -> float:
    """Return a quantile in milliseconds."""
    return round(float(np.quantile(seconds, share)) * 1e3, 3)


def rehearse(options: argparse.Namespace) -> dict[str, float]:
    """Build, ask and compare; print what is found, and return the figures."""
    directory, questions = options.out / "build", options.out / "queries.npz"
    answers = options.out / "answers.npz"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    drawn = Drawn(options.rows)
    queries = drawn.queries()
    write_npz(questions, queries=queries)
    manifest, seconds = build(directory, drawn, options.kind)
    print(manifest.factory, manifest.k_factor, manifest.recall, seconds, file=sys.stderr)
    command = [sys.executable, __file__, "--ask", str(directory), str(questions), str(answers)]
    subprocess.run(command, check=True)
    own = read_npz(answers)
    gallery = Gallery.open_directory(directory, embedder_digest=DIGEST)
    truth = exact_answers(gallery, queries)
    flat_seconds = flat(gallery, queries, options.flat_queries)
    compared = compare(Answers(own["rows"], own["similarities"]), truth, drawn.landmarks)
    write_npz(
        answers,
        fastscan_rows=own["rows"],
        fastscan_similarities=own["similarities"],
        exact_rows=truth.rows,
        exact_similarities=truth.similarities,
        landmarks_of_fastscan=drawn.landmarks[own["rows"]],
        landmarks_of_exact=drawn.landmarks[truth.rows],
        fastscan_seconds=own["seconds"],
        flat_seconds=flat_seconds,
    )
    batch = own["batch_seconds"]
    print(
        f"k_factor {manifest.k_factor}; one query p50 {milliseconds(own['seconds'])} ms, "
        f"p99 {milliseconds(own['seconds'], 0.99)} ms; batches of {BATCH} "
        f"p50 {milliseconds(batch)} ms, p99 {milliseconds(batch, 0.99)} ms; "
        f"flat p50 {milliseconds(flat_seconds)} ms, p99 {milliseconds(flat_seconds, 0.99)} ms "
        f"over {len(flat_seconds)} queries",
        file=sys.stderr,
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
        "build_s": round(sum(seconds.values()) - seconds["draw"], 1),
        "open_s": round(float(own["facts"][0]), 3),
    }


def main() -> None:
    """Rehearse, or be the fresh process of a rehearsal."""
    if sys.argv[1:2] == ["--ask"]:
        ask(*map(Path, sys.argv[2:]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=CLEAN_ROWS)
    parser.add_argument("--kind", default="fastscan", help="as cairn-index build takes it")
    parser.add_argument("--flat-queries", type=int, default=200, help="asked of IndexFlatIP")
    parser.add_argument("--out", type=Path, default=Path(".bench/gallery"))
    print(json.dumps(rehearse(parser.parse_args())))


if __name__ == "__main__":
    main()
