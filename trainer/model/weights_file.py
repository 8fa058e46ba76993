"""Files of a backbone's weights: safetensors, or what ``torch.save`` wrote, read without code.

Names are those of timm, behind any prefix that wrappers leave in a state dict.
"""

import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from embedder.errors import ArtifactDamagedError, ArtifactMissingError

# Left by DataParallel, by torch.compile, and by the modules that others keep a backbone in.
_PREFIXES = re.compile(r"(?:(?:module|_orig_mod|backbone)\.)+")
_NESTED = ("state_dict", "model")
# What both readers raise for files that are none of theirs.
_UNREADABLE = (
    SafetensorError,
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    struct.error,
)
_BATCH_COUNT = "num_batches_tracked"  # not in files of before torch 0.4.1, and not used here


def load_weights(backbone: nn.Module, path: Path) -> None:
    """Load a backbone's weights from a file; other tensors in it are ignored.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactDamagedError: It holds no weights, or those of another backbone.
    """
    expected = backbone.state_dict()
    found = _named_as_expected(_read(path), expected)
    for name, tensor in expected.items():
        if name.endswith(_BATCH_COUNT):
            found.setdefault(name, tensor)
    if missing := [name for name in expected if name not in found]:
        reason = f"it lacks {len(missing)} tensors of this backbone, first {missing[0]}"
        raise ArtifactDamagedError(path, reason)
    if other := [name for name, tensor in expected.items() if found[name].shape != tensor.shape]:
        first = other[0]
        raise ArtifactDamagedError(
            path,
            f"{len(other)} of its tensors have other shapes than this backbone's, first {first}: "
            f"{_shape(found[first])}, not {_shape(expected[first])}",
        )
    backbone.load_state_dict({name: found[name] for name in expected})


def _read(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a file, whatever its name ends in."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:] == b"{":  # after the length of a safetensors header
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings(action="ignore"):  # of protocols that others pickle with
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ArtifactMissingError(path) from error
    except pickle.UnpicklingError as error:
        reason = "it holds more than weights, or is no file of torch"
        raise ArtifactDamagedError(path, reason) from error
    except _UNREADABLE as error:
        raise ArtifactDamagedError(path, "it is no file of safetensors or torch") from error
    while isinstance(content, Mapping) and (key := next(filter(content.get, _NESTED), None)):
        content = content[key]
    items = content.items() if isinstance(content, Mapping) else ()
    return {str(name): tensor for name, tensor in items if isinstance(tensor, Tensor)}


def _named_as_expected(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Strip the prefixes of names that the backbone does not know."""
    known = {name: tensor for name, tensor in tensors.items() if name in expected}
    return {_PREFIXES.sub("", name, count=1): t for name, t in tensors.items()} | known


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
