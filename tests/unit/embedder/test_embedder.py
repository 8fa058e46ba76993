"""An embedder proves itself when it is opened, and refuses what cannot be trusted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.artifacts.arrays import read_npz, unit_rows, write_npz
from embedder.artifacts.files import record
from embedder.embedder import Embedder
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactError,
    ArtifactMismatchError,
    ArtifactMissingError,
    DeviceError,
    PictureTooLargeError,
)
from embedder.manifest import EmbedderManifest, Member, read_manifest, write_manifest
from embedder.preprocess import PictureLimits
from embedder.runtimes.devices import resolve_device
from tests.factories import picture_bytes, tiny_embedder, view_bytes


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one tiny embedder for this module; tests that alter it copy it."""
    return tiny_embedder(tmp_path_factory.mktemp("embedder") / "tiny")


@pytest.fixture
def copied(artifact: Path, tmp_path: Path) -> Path:
    """Give a copy that may be altered."""
    return Path(shutil.copytree(artifact, tmp_path / "copied"))


def edit_manifest(directory: Path, **changes: Any) -> None:
    """Change entries of a manifest's JSON."""
    path = directory / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_vectors_are_unit_rows(artifact: Path) -> None:
    """Every embedding has length 1 and the manifest's dimension."""
    embedder = Embedder.load(artifact, precision="f32")
    vectors = embedder.embed([embedder.prepare(picture_bytes(seed)) for seed in range(5)])
    assert vectors.shape == (5, 8)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-6)


def test_no_pictures_give_no_rows(artifact: Path) -> None:
    """An empty batch is answered with an empty array of the right width."""
    assert Embedder.load(artifact).embed([]).shape == (0, 8)


def test_a_vector_does_not_depend_on_its_batch(artifact: Path) -> None:
    """A picture embedded alone and among others has the same vector."""
    embedder = Embedder.load(artifact, precision="f32")
    prepared = [embedder.prepare(picture_bytes(seed)) for seed in range(9)]
    alone = np.concatenate([embedder.embed([picture]) for picture in prepared])
    assert np.abs(embedder.embed(prepared) - alone).max() < 1e-6


def test_many_threads_get_their_own_answers(artifact: Path) -> None:
    """Concurrent calls take turns, and are not mixed up."""
    embedder = Embedder.load(artifact, precision="f32", threads=1)
    prepared = [embedder.prepare(picture_bytes(seed)) for seed in range(40)]
    expected = embedder.embed(prepared)
    with ThreadPoolExecutor(8) as pool:
        rows = np.concatenate(list(pool.map(lambda picture: embedder.embed([picture]), prepared)))
    assert np.abs(rows - expected).max() < 1e-6


def test_views_of_one_thing_are_nearer_than_others(artifact: Path) -> None:
    """The tiny network is a real embedder: views of one pattern are near."""
    embedder = Embedder.load(artifact)
    same, view, other = embedder.embed(
        [embedder.prepare(view_bytes(*key)) for key in ((1, 0), (1, 1), (2, 0))]
    )
    assert same @ view > 0.99 > same @ other


def test_the_limits_are_kept(artifact: Path) -> None:
    """Limits given at loading hold for every picture."""
    embedder = Embedder.load(artifact, limits=PictureLimits(max_pixels=100))
    assert embedder.limits.max_pixels == 100
    with pytest.raises(PictureTooLargeError):
        embedder.prepare(picture_bytes(1))


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "manifest.json"])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    """An embedder that lacks a file is refused with the file's name."""
    (copied / name).unlink()
    with pytest.raises(ArtifactMissingError, match=name):
        Embedder.load(copied)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "manifest.json"])
@pytest.mark.parametrize("how", ["truncated", "altered"])
def test_a_damaged_file_is_named(copied: Path, name: str, how: str) -> None:
    """An altered or truncated file is refused with its name."""
    path = copied / name
    data = bytearray(path.read_bytes())
    if how == "truncated":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=name):
        Embedder.load(copied)


def test_a_network_that_gives_other_vectors_is_refused(copied: Path) -> None:
    """Files may all be whole and still not belong together: golden vectors tell."""
    golden = read_npz(copied / "golden.npz")
    golden["vectors"] = unit_rows(golden["vectors"] + 0.2)
    write_npz(copied / "golden.npz", **golden)
    manifest, _ = read_manifest(copied)
    files = {**manifest.files, "golden.npz": record(copied / "golden.npz")}
    write_manifest(copied, manifest.model_copy(update={"files": files}))
    with pytest.raises(ArtifactDamagedError, match=r"golden.npz.*cosine of 0\."):
        Embedder.load(copied)


def test_another_schema_is_refused(copied: Path) -> None:
    """A manifest of another version is refused with both versions."""
    edit_manifest(copied, schema_version=7)
    with pytest.raises(ArtifactMismatchError, match="expected 1, found 7"):
        Embedder.load(copied)


def test_an_unknown_field_is_refused(copied: Path) -> None:
    """A manifest with a field that this version does not know is refused with its name."""
    edit_manifest(copied, surprise=1)
    with pytest.raises(ArtifactDamagedError, match="surprise"):
        Embedder.load(copied)


def test_a_path_outside_the_artifact_is_refused(copied: Path) -> None:
    """File names in a manifest are plain names."""
    _, _ = read_manifest(copied)
    content = json.loads((copied / "manifest.json").read_text())
    content["members"][0]["onnx"] = "../model.onnx"
    (copied / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactDamagedError, match="onnx"):
        Embedder.load(copied)


def test_the_digest_names_the_content(artifact: Path, copied: Path, tmp_path: Path) -> None:
    """A copy has the same identity, another network another one."""
    other = tiny_embedder(tmp_path / "other", seed=1)
    digests = [Embedder.load(path).digest for path in (artifact, copied, other)]
    assert digests[0] == digests[1] != digests[2]


def test_a_gpu_that_is_not_there_is_refused(artifact: Path) -> None:
    """Asking for a GPU on a machine without one is an error, not a silent CPU."""
    if resolve_device("auto") == "cuda":
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="no NVIDIA GPU"):
        Embedder.load(artifact, device="cuda")


def test_an_ensemble_joins_its_members(tmp_path: Path) -> None:
    """The vector of an ensemble is the members' unit vectors joined and scaled to length 1."""
    sides = (32, 64)
    parts = [
        tiny_embedder(tmp_path / str(side), side=side, seed=side, dimension=side // 4)
        for side in sides
    ]
    both = ensemble(tmp_path / "both", parts)
    embedder = Embedder.load(both, precision="f32")
    alone = [Embedder.load(part, precision="f32") for part in parts]
    data = [picture_bytes(seed, side=60) for seed in range(4)]
    rows = [each.embed([each.prepare(d) for d in data]) for each in alone]
    joined = embedder.embed([embedder.prepare(d) for d in data])
    assert embedder.dimension == 24
    assert np.abs(joined - unit_rows(np.hstack(rows))).max() < 1e-6


def ensemble(directory: Path, parts: list[Path]) -> Path:
    """Join tiny embedders into one artifact."""
    directory.mkdir()
    members: list[Member] = []
    golden: dict[str, Any] = {}
    vectors = []
    for number, part in enumerate(parts):
        (member,) = read_manifest(part)[0].members
        onnx = f"model-{number}.onnx"
        shutil.copy(part / member.onnx, directory / onnx)
        members.append(member.model_copy(update={"name": f"tiny-{number}", "onnx": onnx}))
        own = read_npz(part / "golden.npz")
        vectors.append(own["vectors"])
        golden |= {key: own[key] for key in own if key.startswith("picture_")}
        golden[f"crops_{number}"] = own["crops_0"]
        golden[f"crop_vectors_{number}"] = own["crop_vectors_0"]
    write_npz(directory / "golden.npz", vectors=unit_rows(np.hstack(vectors)), **golden)
    files = {path.name: record(path) for path in directory.iterdir()}
    dimension = sum(member.dimension for member in members)
    write_manifest(
        directory,
        EmbedderManifest(name="both", dimension=dimension, members=tuple(members), files=files),
    )
    return directory


CLOSED_ELSEWHERE = """
import gc, os, signal, sys, threading
from pathlib import Path
from embedder.embedder import Embedder

def close():
    opened.pop().close()
    gc.collect()

caught = []
signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
opened = [Embedder.load(Path(sys.argv[1]))]
thread = threading.Thread(target=close)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGUSR1)
print(len(caught))
"""


def test_signals_are_handled_after_another_thread_closed_the_embedder(artifact: Path) -> None:
    """A swapped service still ends in order: OpenVINO's signal stack is not taken away."""
    finished = subprocess.run(
        [sys.executable, "-c", CLOSED_ELSEWHERE, str(artifact)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (0, "1\n"), finished.stderr
