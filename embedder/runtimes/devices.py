"""Which device and precision a network runs in, and which engine that means."""

import importlib.util
from pathlib import Path

from embedder.errors import DeviceError
from embedder.runtimes.names import Device, RuntimeName, UsableDevice

RUNTIMES: dict[UsableDevice, RuntimeName] = {"cpu": "openvino", "cuda": "torch_export"}
"""The engine of each device, as manifests name it."""

DEVICES: dict[str, UsableDevice] = {runtime: device for device, runtime in RUNTIMES.items()}
"""The device of each engine."""


def resolve_device(device: Device) -> UsableDevice:
    """Turn ``auto`` into ``cuda`` where a usable NVIDIA GPU is, else into ``cpu``.

    Raises:
        DeviceError: ``cuda`` was asked for and there is none.
    """
    if device == "cpu":
        return "cpu"
    driver = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()
    usable = driver and importlib.util.find_spec("torch") is not None and _cuda_is_available()
    if device == "cuda" and not usable:
        raise DeviceError("no NVIDIA GPU that torch can use was found; choose the device cpu")
    return "cuda" if usable else "cpu"


def _cuda_is_available() -> bool:
    from embedder.runtimes import torch_export

    return torch_export.cuda_is_available()


def can_run_bf16(device: UsableDevice) -> bool:
    """Tell whether the processor, or the GPU, has bfloat16 instructions."""
    if device == "cuda":
        from embedder.runtimes import torch_export

        return torch_export.can_run_bf16()
    from embedder.runtimes import openvino

    return openvino.can_run_bf16()
