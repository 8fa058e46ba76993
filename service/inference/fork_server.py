"""A fork server: the process that holds one published pair open.

It opens the gallery once and forks the workers, which share what it has read: the libraries, the
catalog, the codes of a fast scan. Meanwhile it answers what needs the gallery but no network. It
has one thread, since a fork copies no other.

``python -m service.inference.fork_server FD`` speaks over the socket FD. It receives an
:class:`Opening` and answers with :class:`Opened`, or the error. Then each request is a name and
its arguments: :data:`FORK`, followed by the socket of the new worker; or a method of
:class:`GalleryBrowser`, answered by its result or its error. It ends when the socket is closed, and
then its workers end with it, whatever they do.
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
_GPU_BATCHES = 2  # at a time, so that decoding and network overlap


class ForkServer:
    """Answers the requests of one front process.

    Args:
        end: Where they come from.
        opening: What is opened.

    Raises:
        CairnError: An artifact is missing, damaged or mismatched, or the device is not available.

    Attributes:
        opened: What is open.
    """

    def __init__(self, end: socket.socket, opening: Opening) -> None:
        self._end = end
        self._opening = opening
        device = resolve_device(opening.device)
        self._gallery = open_gallery(opening, "cpu")
        self._gallery.find_picture("")  # the first takes long, and is for all workers, too
        self._browser = GalleryBrowser(self._gallery)
        self._workers: set[int] = set()
        manifest, on_gpu = self._gallery.manifest, device == "cuda"
        self.opened = Opened(
            build=manifest.build_id,
            directory=self._gallery.directory,
            files=manifest.files,
            device=device,
            workers=1 if on_gpu else opening.cores.workers,
            batch=opening.batch or (_GPU_BATCH if on_gpu else _CPU_BATCH),
            batches=_GPU_BATCHES if on_gpu else 1,
        )
        signal.signal(signal.SIGCHLD, _report_dead)
        gc.collect()
        gc.freeze()  # a collection would write to memory that is shared with the workers

    def run(self) -> None:
        """Answer requests until the front process is gone.

        Raises:
            EOFError: It is.
        """
        while True:
            name, *arguments = receive(self._end)
            if name == FORK:
                self._fork(*arguments)
                continue
            try:
                answer = getattr(self._browser, name)(*arguments)
            except Exception as error:  # whatever it is belongs to the one who asked
                answer = portable(error)
            send(self._end, answer)

    def end_workers(self) -> None:
        """End the workers that have not ended by themselves, and collect all of them.

        The one that hangs would stay for ever; and the first process of a container, which would
        have to collect those that end after this one, may be the front process, which does not.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for worker in self._workers:
            with contextlib.suppress(ChildProcessError):  # it was collected long ago
                if os.waitpid(worker, os.WNOHANG) == (0, 0):
                    os.kill(worker, signal.SIGKILL)
                    os.waitpid(worker, 0)

    def _fork(self, threads: int) -> None:
        _, descriptors, _, _ = socket.recv_fds(self._end, 1, 1)
        if not descriptors:
            raise EOFError
        with socket.socket(fileno=descriptors[0]) as worker_end:
            if worker := os.fork():
                self._workers.add(worker)
                return
            try:
                self._end.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                work(worker_end, self._opening, self.opened, self._gallery, threads)
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
        try:
            send(end, server.opened)
            server.run()
        finally:
            server.end_workers()


if __name__ == "__main__":
    main()
