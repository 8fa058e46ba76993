"""One door per engine that can run a network; chosen by device, never by import."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from embedder.errors import DeviceError
from embedder.manifest import Member

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["f32", "bf16"]


class Runtime(Protocol):
    """One network, ready to run. Calls from several threads run at once or take turns."""

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network.

        Args:
            batch: ``(n, 3, side, side)`` normalized pictures, n ≥ 1.

        Returns:
            ``(n, dimension)`` rows of about unit length.
        """
        ...


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """Turn ``auto`` into ``cuda`` where a usable NVIDIA GPU is, else into ``cpu``.

    Raises:
        DeviceError: ``cuda`` was asked for and there is none.
    """
    if device == "cpu":
        return "cpu"
    driver = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()
    usable = driver and importlib.util.find_spec("torch") is not None and _cuda_answers()
    if device == "cuda" and not usable:
        raise DeviceError("no NVIDIA GPU that torch can use was found; choose the device cpu")
    return "cuda" if usable else "cpu"


def _cuda_answers() -> bool:
    from embedder.runtimes import torch_export

    return torch_export.cuda_answers()


def can_run_bf16(device: Literal["cpu", "cuda"]) -> bool:
    """Tell whether the processor computes in bfloat16 itself."""
    if device == "cuda":
        return True
    from embedder.runtimes import openvino

    return openvino.can_run_bf16()


def open_runtime(
    directory: Path,
    member: Member,
    *,
    device: Literal["cpu", "cuda"],
    precision: Precision,
    threads: int,
    lanes: int,
) -> Runtime:
    """Open one network of an embedder.

    Args:
        directory: The artifact.
        member: The network in it.
        device: ``cpu`` runs ``model.onnx`` by OpenVINO, ``cuda`` runs ``model.pt2`` by torch.
        precision: What the network computes in; vectors are always float32.
        threads: CPU threads of one run, 0 to divide the cores among the lanes.
        lanes: Runs at the same time on a CPU; a GPU has one.

    Raises:
        ArtifactDamagedError: The engine cannot read the file.
        DeviceError: The embedder holds no network for this device.
    """
    if device == "cpu":
        from embedder.runtimes.openvino import OpenVinoRuntime

        path = directory / member.onnx
        return OpenVinoRuntime(path, precision=precision, threads=threads, lanes=lanes)
    if member.exported is None:
        raise DeviceError(f"{directory} holds no network for NVIDIA GPUs; choose the device cpu")
    from embedder.runtimes.torch_export import TorchExportRuntime

    return TorchExportRuntime(directory / member.exported, precision=precision, device="cuda")
