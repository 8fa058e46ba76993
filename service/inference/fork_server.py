"""A fork server: the process that holds one published pair open.

It opens the gallery once and forks the workers, which share what it has read: the libraries, the
catalog, the codes of a fast scan. Meanwhile it answers what needs the gallery but no network. It
has one thread, since a fork copies no other.

``python -m service.inference.fork_server FD`` speaks over the socket FD. It receives an
:class:`Opening` and answers with :class:`Opened`, or the error. Then each request is a name and
its arguments: :data:`FORK`, followed by the socket of the new worker; or a method of
:class:`GalleryBrowser`, answered by its result or its error. It ends when the socket is closed.
"""

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from types import FrameType

import embedder.runtimes.openvino  # noqa: F401 - once for all workers
from embedder.runtimes.devices import resolve_device
from service.inference.browser import GalleryBrowser
from service.inference.messages import portable, receive, send
from service.inference.processes import FORK, Opened, Opening
from service.inference.published import open_gallery
from service.inference.worker import work
from service.telemetry.logs import set_up_logging

log = logging.getLogger(__name__)

_CPU_BATCH, _GPU_BATCH = 4, 16  # more is no faster


class ForkServer:
    """Answers the requests of one front process.

    Args:
        end: Where they come from.
        opening: What is opened.

    Raises:
        CairnError: An artifact is missing, damaged or mismatched, or the device is not available.
    """

    def __init__(self, end: socket.socket, opening: Opening) -> None:
        self._end = end
        self._opening = opening
        self._device = resolve_device(opening.device)
        self._batch = opening.batch or (_GPU_BATCH if self._device == "cuda" else _CPU_BATCH)
        self._gallery = open_gallery(opening, "cpu")
        self._browser = GalleryBrowser(self._gallery)
        signal.signal(signal.SIGCHLD, _report_dead)
        gc.collect()
        gc.freeze()  # a collection would write to memory that is shared with the workers

    def opened(self) -> Opened:
        """Describe what is open."""
        manifest, on_gpu = self._gallery.manifest, self._device == "cuda"
        return Opened(
            build=manifest.build_id,
            directory=self._gallery.directory,
            files=manifest.files,
            device=self._device,
            workers=1 if on_gpu else self._opening.cores.workers,
            batch=self._batch,
        )

    def run(self) -> None:
        """Answer requests until the front process is gone.

        Raises:
            EOFError: It is.
        """
        while True:
            name, *arguments = receive(self._end)
            if name == FORK:
                self._fork()
                continue
            try:
                answer = getattr(self._browser, name)(*arguments)
            except Exception as error:  # whatever it is belongs to the one who asked
                answer = portable(error)
            send(self._end, answer)

    def _fork(self) -> None:
        _, descriptors, _, _ = socket.recv_fds(self._end, 1, 1)
        with socket.socket(fileno=descriptors[0]) as worker_end:
            if os.fork():
                return
            try:
                self._end.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                on_gpu = self._device == "cuda"
                work(worker_end, self._opening, None if on_gpu else self._gallery, self._batch)
            finally:
                os._exit(1)


def _report_dead(_number: int, _frame: FrameType | None) -> None:
    """Collect the children that have ended; say so where it was not their own choice."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            process, status = ended
            if os.WIFSIGNALED(status):
                log.error("worker %d was ended by signal %d", process, os.WTERMSIG(status))


def main() -> None:
    """Serve the front process whose socket is the first argument."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the front process closes the sockets
    # torch would else initialize CUDA when it looks for it, and then CUDA cannot be forked
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    end = socket.socket(fileno=int(sys.argv[1]))
    with contextlib.suppress(EOFError, ConnectionError):
        opening: Opening = receive(end)
        set_up_logging(opening.log_level, opening.log_format, answers_requests=False)
        try:
            server = ForkServer(end, opening)
        except Exception as error:  # whatever it is, the front process reports it
            send(end, portable(error))
            return
        send(end, server.opened())
        server.run()


if __name__ == "__main__":
    main()
