"""FAISS on GPUs, proved without one: FAISS's flat index of the CPU stands in for that of a GPU."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from index.search import torch_search
from index.search.engines import ExactRows
from index.search.faiss_search import open_vectors, write_vectors
from index.search.neighbors import find_nearest
from tests.unit.index.gallery.test_gallery import random_rows
from tests.unit.index.search.test_kinds import brute_force

ROWS = 300


class Machine:
    """GPUs that hold so many rows each; those that were given to each, in the order of giving."""

    def __init__(self, gpus: int, *, room: int = ROWS) -> None:
        self.gpus, self.room = gpus, room
        self.held: list[tuple[int, int]] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Let FAISS find these GPUs."""
        machine = self

        class Config:
            device, useFloat16 = -1, False  # noqa: N815 (FAISS's own name)

        def on_gpu(resources: object, dimension: int, config: Config) -> faiss.IndexFlatIP:
            assert isinstance(resources, Resources)
            assert config.useFloat16

            class OnGpu(faiss.IndexFlatIP):  # type: ignore[misc]  # FAISS has no types
                device = config.device

                def add(self, rows: NDArray[np.float32]) -> None:
                    if self.ntotal + len(rows) > machine.room:
                        raise RuntimeError(f"Error on GPU {self.device}\nout of memory")
                    super().add(rows)
                    machine.held.append((self.device, len(rows)))

            return OnGpu(dimension)

        class Resources:
            pass

        patch.setattr(faiss, "get_num_gpus", lambda: machine.gpus)
        patch.setattr(faiss, "GpuIndexFlatConfig", Config, raising=False)
        patch.setattr(faiss, "GpuIndexFlatIP", on_gpu, raising=False)
        patch.setattr(faiss, "StandardGpuResources", Resources, raising=False)


def written(folder: Path) -> tuple[Path, NDArray[np.float32]]:
    """Write vectors; return their file and the rows as it holds them."""
    rows = random_rows(ROWS)
    path = folder / "vectors.faiss"
    write_vectors(path, [rows], rows=len(rows), dimension=rows.shape[1])
    return path, rows


def opened(path: Path) -> Any:
    """Open vectors for the GPUs."""
    return open_vectors(path, k_factor=None, device="cuda")


@pytest.mark.parametrize(
    ("gpus", "room", "held"),
    [
        (1, ROWS, [(0, 300)]),
        (3, ROWS, [(0, 300), (1, 300), (2, 300)]),
        (3, 100, [(0, 100), (1, 100), (2, 100)]),
        (4, 150, [(0, 75), (1, 75), (2, 75), (3, 75)]),
    ],
    ids=["one", "copies", "parts", "smaller-parts"],
)
def test_rows_are_copied_to_every_gpu_or_shared_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
    room: int,
    held: list[tuple[int, int]],
) -> None:
    """Whichever it is, the answers are those of brute force, and stay so when memory is reused."""
    path, rows = written(tmp_path)
    machine = Machine(gpus, room=room)
    machine.install(monkeypatch)
    engine = opened(path)
    gc.collect()
    others = [faiss.IndexFlatIP(rows.shape[1]) for _ in range(50)]  # take memory that was freed
    assert machine.held == held
    queries = random_rows(20, seed=1)
    for k in (1, 10, ROWS):
        expected = brute_force(rows, queries, k, np.empty(0, np.int64))
        found = find_nearest(engine, queries, k)
        assert found.rows.tolist() == expected.rows.tolist()
        np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-6)
    assert not any(index.ntotal for index in others)


def test_torch_takes_over_where_faiss_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A FAISS that fails on these GPUs says why, and torch searches, or else the CPU."""
    path, rows = written(tmp_path)
    Machine(2, room=10).install(monkeypatch)
    monkeypatch.setattr(torch_search, "gpus", lambda: [torch_search.torch.device("cpu")])
    engine = opened(path)
    assert isinstance(engine, torch_search.TorchEngine)
    assert [line.message for line in caplog.records] == [
        "FAISS cannot use the GPUs, torch shall: out of memory"
    ]
    assert find_nearest(engine, rows[:5], 1).rows.ravel().tolist() == [*range(5)]


def test_the_cpu_searches_where_neither_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Both reasons are told, and the answers are there."""

    def none() -> list[object]:
        raise RuntimeError("torch finds no NVIDIA GPU")

    path, rows = written(tmp_path)
    Machine(1, room=10).install(monkeypatch)
    monkeypatch.setattr(torch_search, "gpus", none)
    engine = opened(path)
    assert isinstance(engine, ExactRows)
    assert [line.message for line in caplog.records] == [
        "FAISS cannot use the GPUs, torch shall: out of memory",
        f"gallery {tmp_path.name} is searched on the CPU: torch finds no NVIDIA GPU",
    ]
    assert find_nearest(engine, rows[:5], 1).rows.ravel().tolist() == [*range(5)]


def test_many_neighbors_are_compared_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAISS's GPU search returns no more than 2,048 rows."""
    rows, path = random_rows(600), tmp_path / "vectors.faiss"
    write_vectors(path, [rows], rows=len(rows), dimension=rows.shape[1])
    Machine(1, room=600).install(monkeypatch)
    engine = opened(path)
    monkeypatch.setattr(engine, "_refine", None)  # what would ask the GPU
    assert engine.search(rows[:2], 600)[1][:, 0].tolist() == [0, 1]
