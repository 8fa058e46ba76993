"""The CPU engine: ``model.onnx`` by OpenVINO, in float32 or bfloat16.

Chosen by measurement: on a CPU with bfloat16 it runs at the speed of the matrix units, and it
gives the same vector whatever the size of the batch.
"""

import functools
import os
import queue
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


_MAX_COPIES_BYTES = 64 << 20
"""Total file size of the copies of a network; a larger network has one copy."""


class OpenVinoRuntime:
    """One network compiled for this CPU.

    A small network is compiled once for each parallel run, and then runs in the calling thread.
    A large one is compiled once, with a stream of threads for each run: handing the work over
    costs little beside the work, while every further copy would hold the weights once more.
    """

    def __init__(
        self, path: Path, *, precision: Precision, threads: int, parallel_runs: int
    ) -> None:
        core = _core()
        copies = parallel_runs if parallel_runs * path.stat().st_size <= _MAX_COPIES_BYTES else 1
        streams = parallel_runs // copies
        threads = threads or max(1, len(os.sched_getaffinity(0)) // parallel_runs)
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads * streams,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,
        }
        self._requests: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
        try:
            network = core.read_model(path)
            for _ in range(copies):
                compiled = core.compile_model(network, "CPU", settings)
                for _ in range(streams):
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
    """Return the one core of this process, which is never destroyed.

    The first core of a thread gives that thread a stack for its signal handlers and frees it
    when it is destroyed. Where another thread does that, the next signal that the first thread
    handles, such as SIGTERM, kills the process.
    """
    return openvino.Core()
