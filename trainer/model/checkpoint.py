"""The state of a run in one file: safetensors, written atomically, without pickle.

Tensors are named ``network.…``, ``head.…``, ``optimizer.<number>.…``, ``rng.…``; what is not a
tensor stands as JSON in the header, with the version of the format.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from embedder.artifacts.documents import VERSION as VERSION_KEY
from embedder.artifacts.documents import check_version
from embedder.artifacts.files import sync_directory
from embedder.errors import ArtifactDamagedError, ArtifactMissingError

# Files that name no version are version 1: their networks are read, but runs are resumed from the
# present version alone, since only that trains on with exactly the same numbers.
VERSION = 2


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        stage: Number of the current stage.
        epoch: Number of the current epoch in the stage.
        step: Steps done in the epoch.
        loss_total: Sum of their losses.
        best_score: Best validation GAP so far; negative before the first validation, and again
            when a stage validates at another side.
        validations: Scores within the epoch so far, each with its ``step``.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    loss_total: float = 0.0
    best_score: float = -1.0
    validations: list[dict[str, Any]] = field(default_factory=list)


def save(
    path: Path,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    *,
    before: Path | None = None,
) -> None:
    """Write a checkpoint atomically, from the tensors' own memory where they are on the CPU.

    Args:
        path: The file.
        tensors: By name.
        facts: Of JSON types.
        before: What becomes of the file that is there; by default it is replaced.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"facts": json.dumps({**facts, VERSION_KEY: VERSION})}
    part = path.with_name(f".{path.name}.part")  # a killed process leaves one
    part.unlink(missing_ok=True)
    try:
        part.touch()
        mode = part.stat().st_mode & 0o777  # by the umask; safetensors would write for us alone
        safetensors.torch.save_file(plain, part, header)
        part.chmod(mode)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        if before and path.exists():
            path.replace(before)
        part.replace(path)
    except SafetensorError as error:  # such as a full disk
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    sync_directory(path.parent)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors by name and the facts, ``schema_version`` among them, of a checkpoint.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactDamagedError: It is not a checkpoint.
        ArtifactMismatchError: It was written by a newer version.
    """
    with _opened(path) as (file, facts):
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (not a dict)


def load_facts(path: Path) -> dict[str, Any]:
    """Read the facts of a checkpoint, and none of its tensors; errors as for :func:`load`."""
    with _opened(path) as (_, facts):
        return facts


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = {VERSION_KEY: 1, **json.loads(file.metadata()["facts"])}
            check_version(path, facts[VERSION_KEY], newest=VERSION)
            yield file, facts
    except FileNotFoundError as error:
        raise ArtifactMissingError(path) from error
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactDamagedError(path, "it is not a checkpoint of a run") from error


def join_parts(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Name the tensors of several parts ``part.name``; :func:`part` takes one out again."""
    return {f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()}


def part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Take the tensors under ``name.``, without that prefix."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Name the tensors of an optimizer's state; rates and decays come from the recipe."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": tensor
        for number, named in state.items()
        for name, tensor in named.items()
        if tensor is not None  # of a parameter that has had no gradient yet
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` named.

    Each moment takes the memory layout of its parameter: fused optimizers walk both side by side.
    """
    content = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        parameter = parameters[int(number)]
        if tensor.shape == parameter.shape:
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)  # noqa: PLW2901 - relaid
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**content, "state": state})
