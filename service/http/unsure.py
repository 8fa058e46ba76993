"""Keeps the pictures that the gallery did not know, where the operator asked for it.

Each lies in the folder as it was sent, named by its content, with the answer as JSON beside it: to
be moved into folders of landmarks by hand, and added to the gallery. Nothing here may harm an
answer: files are written by a thread of their own, and what fails is logged and forgotten.
"""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from embedder.artifacts.files import sha256_bytes, write_atomic
from service.contract.schemas import Answer
from service.inference.tasks import Task

MOST_PICTURES = 10_000
MOST_BYTES = 1 << 30
MOST_PENDING = 4
"""Pictures in memory that are not written yet; further ones are not kept."""

_COUNT_SECONDS = 60.0  # others may add to the folder, and people take away from it
_COMPLAINT_SECONDS = 60.0

log = logging.getLogger(__name__)


class UnsurePictures:
    """The folder of pictures that were not known.

    Args:
        folder: Where they are kept; made with the first, for its owner alone. None keeps none.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="unsure")
        self._pending = threading.Semaphore(MOST_PENDING)
        self._pictures = self._bytes = 0
        self._counted = self._complained = -1e9

    def offer(self, task: Task, answer: object) -> None:
        """Keep the picture of a task if the answer is not known; returns at once.

        Only of a gallery that is calibrated: no other says that it does not know. A query for
        some landmarks, or of several pictures, does not tell what a picture shows.
        """
        if self.folder is None or task.options.only or len(task.pictures) != 1:
            return
        if not isinstance(answer, Answer) or answer.known is not False:
            return
        if self._pending.acquire(blocking=False):
            text = answer.model_dump_json(indent=1).encode()
            with suppress(RuntimeError):  # the service is stopping
                self._writer.submit(self._keep, self.folder, task.pictures[0], text)

    def close(self) -> None:
        """Write what is pending."""
        self._writer.shutdown()

    def _keep(self, folder: Path, data: bytes, text: bytes) -> None:
        try:
            self._write(folder, data, text)
        except OSError as error:
            self._complain(f"cannot keep a picture: {error}")
        finally:
            self._pending.release()

    def _write(self, folder: Path, data: bytes, text: bytes) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = sha256_bytes(data).removeprefix("sha256:")[:32]
        picture, answer = folder / f"{name}.{_suffix(data)}", folder / f"{name}.json"
        size = len(data) + len(text)
        self._count(folder)
        if picture.exists():
            return
        if self._pictures >= MOST_PICTURES or self._bytes + size > MOST_BYTES:
            self._complain(f"{folder} is full, so no more pictures are kept; sort and empty it")
            return
        try:
            write_atomic(answer, text)  # first: no picture is without its answer
            write_atomic(picture, data)
        except OSError:
            answer.unlink(missing_ok=True)
            raise
        self._pictures += 1
        self._bytes += size

    def _count(self, folder: Path) -> None:
        """Count what lies in the folder, if that was not done lately."""
        if time.monotonic() < self._counted + _COUNT_SECONDS:
            return
        files = [path for path in folder.rglob("*") if path.is_file()]
        self._pictures = sum(path.suffix != ".json" for path in files)
        self._bytes = sum(path.stat().st_size for path in files)
        self._counted = time.monotonic()

    def _complain(self, text: str) -> None:
        if time.monotonic() >= self._complained + _COMPLAINT_SECONDS:
            self._complained = time.monotonic()
            log.warning("%s", text)


def _suffix(data: bytes) -> str:
    """Return the suffix of a picture that was read, by its first bytes.

    >>> _suffix(b"RIFF....WEBPVP8 "), _suffix(b"....ftypavif"), _suffix(b"....ftypmif1")
    ('webp', 'avif', 'heic')
    """
    if data[4:8] == b"ftyp":
        return "avif" if data[8:11] == b"avi" else "heic"
    starts = {b"\x89PNG": "png", b"GIF8": "gif", b"RIFF": "webp"}
    return starts.get(data[:4], "jpg")
