"""The CPU engine: ``model.onnx`` by OpenVINO, in float32 or bfloat16.

Chosen by measurement: on a CPU with bfloat16 it runs at the speed of the matrix units, and it
gives the same vector whatever the size of the batch.
"""

import functools
import os
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.errors import ArtifactDamagedError
from embedder.runtimes.names import Precision
from embedder.runtimes.reporting import report_nothing

report_nothing()
import openvino  # noqa: E402 (importing it would send a report)


def can_run_bf16() -> bool:
    """Tell whether this CPU has bfloat16 instructions."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoRuntime:
    """One network compiled for this CPU; one call runs at a time."""

    def __init__(self, path: Path, *, precision: Precision, threads: int) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads or len(os.sched_getaffinity(0)),
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        core = _core()
        try:
            compiled = core.compile_model(core.read_model(path), "CPU", settings)
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            raise ArtifactDamagedError(path, "OpenVINO cannot read this network") from error
        self._running = threading.Lock()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network; see :class:`embedder.runtimes.runtime.Runtime`."""
        with self._running:
            (rows,) = self._request.infer([batch], share_inputs=True).values()
            return np.asarray(rows, np.float32)


@functools.cache
def _core() -> openvino.Core:
    """Return the one core of this process, which is never destroyed.

    The first core of a thread gives that thread a stack for its signal handlers and frees it
    when it is destroyed. Where another thread does that, the next signal that the first thread
    handles, such as SIGTERM, kills the process.
    """
    return openvino.Core()
