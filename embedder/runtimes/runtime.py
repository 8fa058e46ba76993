"""Open the network of an artifact in the engine of a device."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedder.errors import DeviceError
from embedder.manifest import Member
from embedder.runtimes.names import Precision, UsableDevice


class Runtime(Protocol):
    """One network, ready to run. Thread-safe."""

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network.

        Args:
            batch: ``(n, 3, side, side)`` normalized pictures, n ≥ 1.

        Returns:
            ``(n, dimension)`` rows of about unit length.
        """
        ...


def open_runtime(
    directory: Path,
    member: Member,
    *,
    device: UsableDevice,
    precision: Precision,
    threads: int,
) -> Runtime:
    """Open one network of an embedder.

    Args:
        directory: The artifact.
        member: The network in it.
        device: ``cpu`` runs ``model.onnx`` by OpenVINO, ``cuda`` runs ``model.pt2`` by torch.
        precision: What the network computes in; vectors are always float32.
        threads: CPU threads of a run; 0 is one for each core.

    Raises:
        ArtifactDamagedError: The engine cannot read the file.
        DeviceError: The embedder holds no network for this device.
    """
    if device == "cpu":
        from embedder.runtimes.openvino import OpenVinoRuntime

        path = directory / member.onnx
        return OpenVinoRuntime(path, precision=precision, threads=threads)
    if member.exported is None:
        raise DeviceError(f"{directory} holds no network for NVIDIA GPUs; choose the device cpu")
    from embedder.runtimes.torch_export import TorchExportRuntime

    return TorchExportRuntime(directory / member.exported, precision=precision, device="cuda")
