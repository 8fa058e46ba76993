"""The NVIDIA engine: ``model.pt2`` by torch, in bfloat16 and channels-last.

The only module of the serving packages that imports torch. ``torch.export.load`` would run
pickled code that a file brings along, so :func:`refuse_code` reads the archive first and lets
through only what an export of ours consists of: raw weights, the graph, a few markers.
"""

import ast
import json
import re
import threading
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export.passes import move_to_device_pass

from embedder.errors import ArtifactDamagedError, ArtifactMissingError
from embedder.runtimes.names import Precision, UsableDevice

_RAW = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_CONFIG = re.compile(r"data/(weights|constants)/model_\w+_config\.json")
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_GRAPH = "models/model.json"
_MARKER = re.compile(
    r"archive_format|archive_version|version|byteorder|\.data/(version|serialization_id)"
)
_OPERATOR = re.compile(r"torch\.ops\.aten\.(?!from_file\b)\w+\.\w+|_operator\.\w+")
_MAX_GRAPH_BYTES = 64 << 20
_SYMPY = re.compile("Symbol|Integer|Add|Mul|Max|Min|Mod|FloorDiv|CleanDiv|Eq|Ne|Ge|Gt|Le|Lt")
_SYMBOL = re.compile(r"[su]\d+")
_OPERATIONS = (ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop)
_ARITHMETIC = (*_OPERATIONS, ast.Expression, ast.Load, ast.keyword)


def refuse_code(path: Path) -> None:
    """Refuse a ``torch.export`` archive that could run code when it is loaded.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactDamagedError: A member is pickled, a custom object, unknown or doubled, or the
            graph holds an expression that is more than arithmetic (torch evaluates those).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(set(names)) != len(names):
                raise ArtifactDamagedError(path, "it has two members of one name")
            for info in archive.infolist():
                if fault := _fault(archive, info):
                    raise ArtifactDamagedError(path, fault)
    except FileNotFoundError as error:
        raise ArtifactMissingError(path) from error
    except (
        zipfile.BadZipFile,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ArtifactDamagedError(path, "it is not a torch.export archive") from error


def _fault(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str | None:
    """Return why a member must not be loaded; None where it is harmless."""
    name = info.filename.partition("/")[2]  # the first folder is the archive's own name
    if name == _SAMPLE_INPUTS:
        return f"{name} is pickled and could run code" if info.file_size else None
    if _CONFIG.fullmatch(name):
        entries = json.loads(archive.read(info))["config"].values()
        pickled = any(entry["use_pickle"] is not False for entry in entries)
        return f"{name} names a pickled member that could run code" if pickled else None
    if name == _GRAPH:
        return _graph_fault(name, archive, info)
    known = _RAW.fullmatch(name) or _MARKER.fullmatch(name)
    return None if known else f"{name} is not part of an exported network"


def _graph_fault(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str | None:
    if info.file_size > _MAX_GRAPH_BYTES:
        return f"{name} is far larger than the graph of a network"
    graph = json.loads(archive.read(info))
    if graph.get("guards_code"):
        return f"{name} holds guards, which are code"
    if unknown := next((o for o in _operators(graph) if not _OPERATOR.fullmatch(o)), None):
        return f"{name} calls {unknown}, which is not an operator of a network"
    plain = all(_is_arithmetic(expression) for expression in _expressions(graph))
    return None if plain else f"{name} holds an expression that could run code"


def _objects(node: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - any JSON value
    """Yield every object of a JSON document."""
    children: Iterable[Any] = node if isinstance(node, list) else ()
    if isinstance(node, dict):
        yield node
        children = node.values()
    for child in children:
        yield from _objects(child)


def _operators(graph: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Yield the operator that each node of a graph calls."""
    for fields in _objects(graph):
        if isinstance(fields.get("target"), str):
            yield fields["target"]


def _expressions(graph: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Yield every symbolic expression of a graph, which torch hands to sympy."""
    for fields in _objects(graph):
        yield from (str(fields[key]) for key in ("expr_str", "symbol") if key in fields)
        yield from fields.get("range_constraints", ())


def _is_arithmetic(expression: str) -> bool:
    """Tell whether an expression is made of numbers, symbols and sympy's arithmetic alone.

    >>> _is_arithmetic("2*s0 + Symbol('s32', positive=True)")
    True
    >>> _is_arithmetic("().__class__") or _is_arithmetic("exec('1')")
    False
    """
    try:
        nodes = list(ast.walk(ast.parse(expression, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    return all(_is_plain(node, called=id(node) in called) for node in nodes)


def _is_plain(node: ast.AST, *, called: bool) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name)
    if isinstance(node, ast.Name):
        return (_SYMPY if called else _SYMBOL).fullmatch(node.id) is not None
    if isinstance(node, ast.Pow):
        return False  # sizes need none, and 9**9**9 is never done
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) or _SYMBOL.fullmatch(node.value) is not None
    return isinstance(node, _ARITHMETIC)


def cuda_is_available() -> bool:
    """Tell whether torch can use an NVIDIA GPU here."""
    return torch.cuda.is_available()


def can_run_bf16() -> bool:
    """Tell whether the NVIDIA GPU has bfloat16 instructions; torch emulates them on older ones."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def load_network(path: Path, device: UsableDevice) -> torch.fx.GraphModule:
    """Load an exported network, ``(n, 3, side, side)`` → ``(n, d)``.

    Args:
        path: The archive; refused before torch sees it if it could run code.
        device: Where it will run.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactDamagedError: torch cannot read it, or it could run code.
    """
    refuse_code(path)
    try:
        program = move_to_device_pass(torch.export.load(path), device)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactDamagedError(path, "torch cannot read this network") from error
    module = program.module()
    # Export asserts every tensor's dtype; under autocast those are rightly bfloat16.
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)
    module.recompile()
    return module


class TorchExportRuntime:
    """One exported network on a torch device.

    Args:
        path: The archive; refused before torch sees it if it could run code.
        precision: ``bf16`` computes convolutions and products in bfloat16.
        device: ``cuda``; ``cpu`` serves to test this engine where no GPU is.
    """

    def __init__(self, path: Path, *, precision: Precision, device: UsableDevice) -> None:
        self._device = device
        self._bf16 = precision == "bf16"
        self._network = load_network(path, device).to(memory_format=torch.channels_last)
        self._one_at_a_time = threading.Lock()  # each takes memory of the GPU

    @torch.inference_mode()
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network; see :class:`embedder.runtimes.runtime.Runtime`."""
        with self._one_at_a_time:
            inputs = torch.from_numpy(batch).to(self._device, memory_format=torch.channels_last)
            with torch.autocast(self._device, dtype=torch.bfloat16, enabled=self._bf16):
                rows = self._network(inputs)
            output: NDArray[np.float32] = rows.float().cpu().numpy()
            return output
