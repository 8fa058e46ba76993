"""Weights are read from safetensors and torch files, whatever wrapped the network."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from embedder.errors import ArtifactDamagedError, ArtifactMissingError
from trainer.model.weights_file import load_weights

State = dict[str, Tensor]


def small() -> nn.Sequential:
    """Make a network with a batch norm."""
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


@pytest.fixture
def state() -> State:
    """Make weights of that network."""
    torch.manual_seed(1)
    return {
        name: torch.rand_like(t.float()).to(t.dtype) for name, t in small().state_dict().items()
    }


def loaded(path: Path) -> State:
    """Load a file into a new network; return its weights."""
    network = small()
    load_weights(network, path)
    return network.state_dict()


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "backbone.", "module._orig_mod."])
@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
def test_a_torch_file_is_read_whatever_wrapped_the_network(
    state: State, tmp_path: Path, prefix: str, nested: str | None
) -> None:
    """Prefixes and the dictionaries of training programs are stripped."""
    content: dict[str, object] = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    torch.save({nested: content, "epoch": 3} if nested else content, tmp_path / "weights.pth")
    found = loaded(tmp_path / "weights.pth")
    assert len(found) == 7
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_the_content_of_a_file_counts_and_not_its_name(state: State, tmp_path: Path) -> None:
    """Both formats are known by how they begin, the older one of torch too."""
    writers: list[Callable[[Path], None]] = [
        lambda path: safetensors.torch.save_file(state, path),
        lambda path: torch.save(state, path),
        lambda path: torch.save(state, path, _use_new_zipfile_serialization=False),
    ]
    for number, write in enumerate(writers):
        write(tmp_path / str(number))
        assert torch.equal(loaded(tmp_path / str(number))["0.weight"], state["0.weight"])


def test_counts_of_batches_may_be_missing(state: State, tmp_path: Path) -> None:
    """Files of old versions of torch have none; nothing else may be missing."""
    del state["1.num_batches_tracked"]
    torch.save(state, tmp_path / "weights.pth")
    assert loaded(tmp_path / "weights.pth")["1.num_batches_tracked"] == 0
    del state["1.running_mean"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ArtifactDamagedError, match=r"lacks 1 tensors.*first 1\.running_mean"):
        loaded(tmp_path / "weights.pth")


def test_other_shapes_are_named(state: State, tmp_path: Path) -> None:
    """The first tensor with both of its shapes, and the number of them."""
    state["0.weight"] = torch.zeros(8, 3, 1, 1)
    state["0.bias"] = torch.zeros(())
    torch.save(state, tmp_path / "weights.pth")
    message = r"2 of its tensors have other shapes.*first 0\.weight: 8×3×1×1, not 4×3×1×1"
    with pytest.raises(ArtifactDamagedError, match=message):
        loaded(tmp_path / "weights.pth")


def test_a_name_of_the_network_itself_is_no_prefix(tmp_path: Path) -> None:
    """A network may have a part of such a name, and other tensors that look alike without it."""
    network = nn.Sequential()
    network.add_module("backbone", nn.Linear(2, 2))
    mine, other = torch.full((2, 2), 5.0), torch.zeros(2, 2)
    content = {"weight": other, "backbone.weight": mine, "backbone.bias": torch.zeros(2)}
    torch.save(content, tmp_path / "weights.pth")
    load_weights(network, tmp_path / "weights.pth")
    assert torch.equal(network.state_dict()["backbone.weight"], mine)


class Hostile:
    """Would run code when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        """Name a function to be called."""
        return (print, ("unpickled",))


def test_code_in_a_file_is_never_run(
    state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pickled object is refused in words, in a torch file and in a plain pickle."""
    torch.save({**state, "args": Hostile()}, tmp_path / "weights.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Hostile()))
    for name in ("weights.pth", "plain.pkl"):
        with pytest.raises(ArtifactDamagedError, match="more than weights"):
            loaded(tmp_path / name)
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"PK\x03\x04", b"\x80\x02.", b"\x08" + bytes(7) + b"{broken"]
)
def test_no_weights_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    """Empty, garbage and truncated files; a missing one is missing."""
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ArtifactDamagedError, match=r"weights\.pth"):
        loaded(path)
    with pytest.raises(ArtifactMissingError):
        loaded(tmp_path / "none.pth")
