"""The CPU engine: ``model.onnx`` by OpenVINO, in float32 or bfloat16.

Chosen by measurement: on a CPU with bfloat16 it runs at the speed of the matrix units, and it
gives the same vector whatever the size of the batch.
"""

from __future__ import annotations

import functools
import os
import queue
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from embedder.errors import ArtifactDamagedError
from embedder.runtimes.devices import Precision


def can_run_bf16() -> bool:
    """Tell whether this CPU has bfloat16 instructions."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


_COPIES_BYTES = 64 << 20
"""What the files of all copies of a network may come to; beyond that there is one."""


class OpenVinoRuntime:
    """One network compiled for this CPU.

    A small network is compiled for each lane, and then runs in the thread that asks. A large one
    is compiled once, with threads of its own to which the work is handed over: little beside the
    work, while every further copy would hold the weights once more.
    """

    def __init__(self, path: Path, *, precision: Precision, threads: int, lanes: int) -> None:
        core = _core()
        copies = lanes if lanes * path.stat().st_size <= _COPIES_BYTES else 1
        threads = threads or max(1, len(os.sched_getaffinity(0)) // lanes)
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads * lanes // copies,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": lanes // copies,
            "ENABLE_CPU_PINNING": False,
        }
        self._requests: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
        try:
            network = core.read_model(path)
            for _ in range(copies):
                compiled = core.compile_model(network, "CPU", settings)
                for _ in range(lanes // copies):
                    self._requests.put(compiled.create_infer_request())
        except RuntimeError as error:
            raise ArtifactDamagedError(path, "OpenVINO cannot read this network") from error

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network; see :class:`embedder.runtimes.runtime.Runtime`."""
        request = self._requests.get()
        try:
            (rows,) = request.infer([batch], share_inputs=True).values()
            return np.asarray(rows, np.float32)
        finally:
            self._requests.put(request)


@functools.cache
def _core() -> openvino.Core:
    """Give the one core of this process; it is never taken down.

    The first core of a thread gives that thread a stack for its signal handlers and takes the
    memory back when it is taken down. Where another thread does that, the next signal that the
    first thread handles, such as SIGTERM, kills the process.
    """
    return openvino.Core()
