"""Search by torch, on its CPU device, against numpy and against FAISS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from index.gallery.gallery import Gallery
from index.search import torch_search
from index.search.torch_search import TorchEngine, gpus
from tests.unit.index.gallery.test_gallery import DIGEST, Neighbors, publish, random_rows
from tests.unit.index.search.test_kinds import brute_force, remove

CPU = torch.device("cpu")
NONE = np.empty(0, np.int64)


def by_torch(gallery: Gallery, devices: int = 1) -> Gallery:
    """Search a gallery by torch on as many devices."""

    class Kept:
        ntotal, d = gallery.manifest.rows, gallery.manifest.dimension
        reconstruct_batch = staticmethod(gallery.vectors)

    vectors = TorchEngine(Kept(), [CPU] * devices)
    return Gallery(gallery.directory, gallery.manifest, vectors)


@pytest.mark.parametrize("k", [1, 10, 300])
@pytest.mark.parametrize("devices", [1, 3])
def test_it_equals_brute_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, k: int, devices: int
) -> None:
    """Rows and similarities, over several blocks and devices and any number of queries."""
    monkeypatch.setattr(torch_search, "_BLOCK_ROWS", 70)
    monkeypatch.setattr(torch_search, "_BLOCK_QUERIES", 16)
    rows, queries = random_rows(300), random_rows(40, seed=1)
    publish(tmp_path, rows)
    gallery = by_torch(Gallery.open(tmp_path, embedder_digest=DIGEST), devices)
    found: Neighbors = gallery.search(queries, k)
    expected = brute_force(rows, queries, k, NONE)
    assert found.rows.tolist() == expected.rows.tolist()
    np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-6)
    assert gallery.search(queries[:0], k).rows.shape == (0, k)


def test_candidates_are_refined_within_a_bound_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many queries and neighbors: the answers are those without a bound."""
    rows, queries = random_rows(300), random_rows(40, seed=1)
    publish(tmp_path, rows)
    opened = Gallery.open(tmp_path, embedder_digest=DIGEST)
    found = by_torch(opened).search(queries, 50)
    sizes = list[int]()
    vectors = opened.vectors
    monkeypatch.setattr(opened, "vectors", lambda key: sizes.append(len(key)) or vectors(key))
    gallery = by_torch(opened)
    monkeypatch.setattr(torch_search, "_REFINED_NUMBERS", 2000 * rows.shape[1])
    sizes.clear()
    again = gallery.search(queries, 50)
    assert max(sizes) <= 2000
    assert again.rows.tolist() == found.rows.tolist()
    assert again.similarities.tolist() == found.similarities.tolist()


def test_equal_rows_are_settled_as_everywhere(tmp_path: Path) -> None:
    """However long the tie, the smaller row comes first."""
    rows = random_rows(400)
    spots = np.sort(np.random.default_rng(2).permutation(400)[:150])
    rows[spots] = rows[spots[0]]
    publish(tmp_path, rows)
    gallery = by_torch(Gallery.open(tmp_path, embedder_digest=DIGEST))
    assert gallery.search(rows[spots[:1]], 3).rows.tolist() == [spots[:3].tolist()]


def test_a_machine_without_a_gpu_searches_on_the_cpu(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so, and the answers are there, without what was removed."""
    if torch.cuda.is_available():
        pytest.skip("this machine has an NVIDIA GPU")
    rows = random_rows(50)
    publish(tmp_path, rows)
    gallery = Gallery.open(tmp_path, embedder_digest=DIGEST)
    remove(gallery, np.array([3]))
    gallery = Gallery.open(tmp_path, embedder_digest=DIGEST, device="cuda")
    assert [line.message for line in caplog.records] == [
        f"gallery {gallery.build_id} is searched on the CPU: torch finds no NVIDIA GPU"
    ]
    assert gallery.search(rows[[3, 4]], 1).rows[1].tolist() == [4]
    assert 3 not in gallery.search(rows[[3]], 49).rows
    with pytest.raises(RuntimeError, match="no NVIDIA GPU"):
        gpus()
