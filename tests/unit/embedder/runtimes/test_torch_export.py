"""The NVIDIA engine gives torch's vectors, and loads nothing that could run code."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from embedder.artifacts.arrays import unit_rows
from embedder.errors import ArtifactDamagedError, ArtifactMissingError
from embedder.runtimes.torch_export import TorchExportRuntime, refuse_code
from trainer.export.network import capture, write_exported


class TinyNetwork(torch.nn.Module):
    """Convolution, norm, mean in float32, linear: the operations of a real embedder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv2d(3, 16, 3)
        self.norm = torch.nn.BatchNorm2d(16)
        self.linear = torch.nn.Linear(16, 8)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Embed."""
        maps = functional.silu(self.norm(self.convolution(pictures)))
        return functional.normalize(self.linear(maps.float().mean((2, 3))))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the tiny network once."""
    path = tmp_path_factory.mktemp("export") / "model.pt2"
    write_exported(path, capture(TinyNetwork().eval(), 32))
    return path


def rewrite(source: Path, target: Path, changes: dict[str, bytes]) -> Path:
    """Copy a zip with members replaced or added; names are below the archive's folder."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        pending = dict(changes)
        for name in old.namelist():
            below = name.partition("/")[2]
            new.writestr(name, pending.pop(below, None) or old.read(name))
        for below, data in pending.items():
            new.writestr(f"{root}/{below}", data)
    return target


class Bomb:
    """An object whose pickle writes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self.mark, "ran")


@pytest.mark.parametrize(("precision", "least"), [("f32", 0.99999), ("bf16", 0.999)])
@pytest.mark.parametrize("n", [1, 5])
def test_the_vectors_are_those_of_the_network(
    archive: Path, precision: str, least: float, n: int
) -> None:
    """Any batch size gives what torch itself gives, within the precision."""
    runtime = TorchExportRuntime(archive, precision=precision, device="cpu")
    inputs = np.random.default_rng(n).standard_normal((n, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = TinyNetwork().eval()(torch.from_numpy(inputs)).numpy()
    vectors = unit_rows(runtime.run(inputs))
    assert np.einsum("nd,nd->n", vectors, expected).min() > least


def test_a_pickle_planted_as_sample_inputs_is_refused_unrun(archive: Path, tmp_path: Path) -> None:
    """The member that torch would unpickle is refused, and nothing of it has run."""
    mark = tmp_path / "mark"
    buffer = io.BytesIO()
    torch.save(Bomb(mark), buffer)
    planted = rewrite(
        archive, tmp_path / "planted.pt2", {"data/sample_inputs/model.pt": buffer.getvalue()}
    )
    with pytest.raises(ArtifactDamagedError, match="pickled"):
        TorchExportRuntime(planted, precision="f32", device="cpu")
    assert not mark.exists()


def test_a_pickled_weight_is_refused_unrun(archive: Path, tmp_path: Path) -> None:
    """A weight that says of itself that it is pickled is refused, and has not run."""
    mark = tmp_path / "mark"
    name = "data/weights/model_weights_config.json"
    with zipfile.ZipFile(archive) as file:
        config = json.loads(file.read(f"{file.namelist()[0].partition('/')[0]}/{name}"))
    first = next(iter(config["config"].values()))
    first["use_pickle"] = True
    planted = rewrite(
        archive,
        tmp_path / "planted.pt2",
        {
            name: json.dumps(config).encode(),
            f"data/weights/{first['path_name']}": pickle.dumps(Bomb(mark)),
        },
    )
    with pytest.raises(ArtifactDamagedError, match="pickled"):
        TorchExportRuntime(planted, precision="f32", device="cpu")
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["data/constants/custom_obj_0", "data/aotinductor/model.so", "extra/note.txt"]
)
def test_unknown_members_are_refused(archive: Path, tmp_path: Path, name: str) -> None:
    """Custom objects, compiled libraries and anything unknown are refused by name."""
    planted = rewrite(archive, tmp_path / "planted.pt2", {name: b"x"})
    with pytest.raises(ArtifactDamagedError, match=name):
        refuse_code(planted)


def test_an_expression_that_calls_is_refused(archive: Path, tmp_path: Path) -> None:
    """Symbolic sizes are evaluated by torch, so only arithmetic is let through."""
    with zipfile.ZipFile(archive) as file:
        root = file.namelist()[0].partition("/")[0]
        graph = file.read(f"{root}/models/model.json").decode()
    assert '"expr_str": "' in graph
    evil = graph.replace('"expr_str": "', '"expr_str": "__import__(\'os\').getpid() + ', 1)
    planted = rewrite(archive, tmp_path / "planted.pt2", {"models/model.json": evil.encode()})
    with pytest.raises(ArtifactDamagedError, match="expression"):
        refuse_code(planted)


def test_two_members_of_one_name_are_refused(archive: Path, tmp_path: Path) -> None:
    """Two readers may see different members of one name, so doubled names are refused."""
    planted = tmp_path / "planted.pt2"
    planted.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(planted, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr(file.namelist()[0], b"x")
    with pytest.raises(ArtifactDamagedError, match="two members"):
        refuse_code(planted)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    """Any other file is refused with its name."""
    path = tmp_path / "model.pt2"
    path.write_bytes(b"not a zip")
    with pytest.raises(ArtifactDamagedError, match=r"model\.pt2"):
        refuse_code(path)
    with pytest.raises(ArtifactMissingError, match="other"):
        refuse_code(tmp_path / "other.pt2")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"guards_code": []', '"guards_code": ["print(1)"]', "guards"),
        ("torch.ops.aten.linear.default", "torch.ops.aten.from_file.default", "from_file"),
        ("torch.ops.aten.linear.default", "os.system", r"os\.system"),
        ('"expr_str": "', '"expr_str": "9**9**9 + ', "expression"),
    ],
)
def test_a_graph_that_does_more_than_compute_is_refused(
    archive: Path, tmp_path: Path, old: str, new: str, words: str
) -> None:
    """Guards are code, operators are torch's arithmetic alone, sizes need no powers."""
    with zipfile.ZipFile(archive) as file:
        root = file.namelist()[0].partition("/")[0]
        graph = file.read(f"{root}/models/model.json").decode()
    assert old in graph
    planted = rewrite(
        archive,
        tmp_path / "planted.pt2",
        {"models/model.json": graph.replace(old, new, 1).encode()},
    )
    with pytest.raises(ArtifactDamagedError, match=words):
        refuse_code(planted)
